#!/bin/sh
# What needs a GPU, cut off after about ten minutes on one card; no network, and torch and transformers as the machine has them.
#
#   sh benchmarks/gpu.sh FOLDER OUT [benchmarks | pretrained]
#
# FOLDER may hold `wheels/` (what the machine lacks, ragdro among it: pip wheel --no-deps .), SmolLM2-135M as a
# folder `smollm2-135m-instruct/` or as a .gguf file, and `data/` (reproductions/pretrained.py's DATA, or its
# prepared files in `data/prepared/`). OUT gets results.jsonl, a line a benchmark; table.txt, the figures of the
# pretrained model; and a log of each. Without a word both parts run. RUNS="hotpotqa:warm-up hotpotqa:dro …" asks
# for other rows of the pretrained model, AT_ONCE of them at a time (6); what its time has cut off resumes with the
# same command.
set -u
folder=$(cd "$1" && pwd) out=$(mkdir -p "$2" && cd "$2" && pwd) part=${3:-all}
cd "$(dirname "$0")/.." || exit
python=${PYTHON:-python3}
site=${SITE:-/tmp/ragdro-site}
if [ -d "$folder/wheels" ] && [ ! -d "$site" ]; then
    $python -m pip install -q --no-index --no-deps --no-compile --target "$site" "$folder"/wheels/*.whl || exit
fi
export PYTHONPATH="$PWD:$site" PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True PYTORCH_ALLOC_CONF=expandable_segments:True

if [ "$part" != pretrained ]; then
    timeout "${SECONDS_BENCHMARKS:-240}" $python -m benchmarks.gpu "$out" --seconds "${BEGIN_WITHIN:-200}" \
        2>"$out/benchmarks.log" | cut -c1-600
fi

if [ "$part" != benchmarks ]; then
    model=.models/smollm2-135m-instruct
    if [ ! -d $model ]; then
        mkdir -p .models
        if [ -d "$folder/smollm2-135m-instruct" ]; then ln -s "$folder/smollm2-135m-instruct" $model
        else $python -m ragdro model import "$folder"/*.gguf $model || exit; fi
    fi
    if [ -d "$folder/data/prepared" ]; then mkdir -p runs/pretrained && cp -r "$folder/data/prepared" runs/pretrained/data; fi
    runs=${RUNS:-$(for set in hotpotqa 2wiki nq; do echo "$set:warm-up $set:dro"; done)}
    export python folder out
    # SET:ROW, after the warm-up that it starts from
    printf '%s\n' $runs | xargs -P "${AT_ONCE:-6}" -I{} sh -c 'run={}; timeout "${SECONDS_PRETRAINED:-330}" \
        $python reproductions/pretrained.py "$folder/data" --sets "${run%%:*}" --rows "${run#*:}" --wait \
        --size large --device cuda --threads 1 >"$out/${run%%:*}-${run#*:}.log" 2>&1'
    $python reproductions/pretrained.py "$folder/data" --table 2>&1 | tee "$out/table.txt"
fi
