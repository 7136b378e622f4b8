#!/bin/sh
# The loop on real questions over a real corpus, with a small model that starts from random weights:
#   sh reproductions/real.sh FOLDER NAME [dotted.key=value ...]
# FOLDER holds multihop/, rc/, dialogue/ and corpora/ (questions and corpora as JSON lines); NAME is hotpotqa, 2wiki,
# musique, nq or wow (Wizard of Wikipedia: the corpus is every sentence that a wizard was given).
set -eu
data=$1
name=$2
shift 2
corpus="$data/corpora/$name.jsonl"
case $name in
hotpotqa | 2wiki | musique)
    train="$data/multihop/${name}_train.jsonl"
    validation="$data/multihop/${name}_dev.jsonl"
    ;;
nq)
    train="$data/rc/nq_train_retrieved5_1000.jsonl"
    validation="$data/rc/nq_dev_gold_2655.jsonl"
    ;;
wow)
    train="$data/dialogue/wow_train.jsonl"
    validation="$data/dialogue/wow_dev.jsonl"
    mkdir -p runs/wow
    for split in train dev; do
        ragdro data convert "$data/dialogue/wow_$split.jsonl" --corpus --out "runs/wow/$split.jsonl"
    done
    corpus=runs/wow/corpus.jsonl
    cat runs/wow/train.jsonl runs/wow/dev.jsonl >"$corpus"
    set -- generator.answer_tokens=40 selector.question_tokens=128 generator.question_tokens=128 "$@"
    ;;
esac
ragdro train configs/real-small.yaml name="real-$name" --overwrite data.train_questions=100 evaluation.questions=200 \
    data.train="$train" data.validation="$validation" data.corpus="$corpus" "$@"
