#!/bin/sh
# The loop on real questions over a real corpus, with a small model that starts from random weights:
#   sh reproductions/real.sh FOLDER [dotted.key=value ...]
# FOLDER holds multihop/, rc/ and corpora/ (questions and corpora as JSON lines).
set -eu
data=$1
shift
for name in hotpotqa 2wiki musique; do
    ragdro train configs/real-small.yaml name="real-$name" --overwrite \
        data.train="$data/multihop/${name}_train.jsonl" data.validation="$data/multihop/${name}_dev.jsonl" \
        data.corpus="$data/corpora/$name.jsonl" "$@"
done
ragdro train configs/real-small.yaml name=real-nq --overwrite \
    data.train="$data/rc/nq_train_retrieved5_1000.jsonl" data.validation="$data/rc/nq_dev_gold_2655.jsonl" \
    data.corpus="$data/corpora/nq.jsonl" data.train_questions=500 evaluation.questions=200 "$@"
