#!/bin/sh
# The loop on real questions over a real corpus, with a small model that starts from random weights:
#   sh reproductions/real.sh FOLDER NAME [dotted.key=value ...]
# NAME is hotpotqa, 2wiki, musique, nq or wow (see sets.sh for what FOLDER holds).
set -eu
. "$(dirname "$0")/sets.sh"
data=$1
name=$2
shift 2
paths "$data" "$name"
[ "$name" != wow ] ||
    set -- generator.answer_tokens=40 selector.question_tokens=128 generator.question_tokens=128 "$@"
ragdro train configs/real-small.yaml name="real-$name" --overwrite data.train_questions=100 evaluation.questions=200 \
    data.train="$train" data.validation="$dev" data.corpus="$corpus" "$@"
