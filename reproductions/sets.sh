# Sourced by the other scripts: `paths FOLDER NAME` sets train, dev and corpus of one of the five real sets.
# FOLDER holds multihop/, rc/, dialogue/ and corpora/; Wizard of Wikipedia's corpus is every sentence that a
# wizard was given, written to runs/wow.
paths() {
    corpus="$1/corpora/$2.jsonl"
    case $2 in
    hotpotqa | 2wiki | musique)
        train="$1/multihop/${2}_train.jsonl"
        dev="$1/multihop/${2}_dev.jsonl"
        ;;
    nq)
        train="$1/rc/nq_train_retrieved5_1000.jsonl"
        dev="$1/rc/nq_dev_gold_2655.jsonl"
        ;;
    wow)
        train="$1/dialogue/wow_train.jsonl"
        dev="$1/dialogue/wow_dev.jsonl"
        corpus=runs/wow/corpus.jsonl
        mkdir -p runs/wow
        for split in train dev; do
            ragdro data convert "$1/dialogue/wow_$split.jsonl" --corpus --out "runs/wow/$split.jsonl"
        done
        cat runs/wow/train.jsonl runs/wow/dev.jsonl >"$corpus"
        ;;
    *)
        echo "$2: no such set; there are hotpotqa, 2wiki, musique, nq and wow" >&2
        exit 2
        ;;
    esac
}
