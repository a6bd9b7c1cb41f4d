#!/usr/bin/env bash
# Every method at the same goal, and one table of them all.
#
#   bash benchmarks/all_methods.sh digits  runs/digits_methods        three seeds
#   bash benchmarks/all_methods.sh cifar10 runs/cifar10_methods       one seed
#   bash benchmarks/all_methods.sh digits  runs/digits_methods --dry-run
#
# A single training has the same number of epochs in every method: dense ones and those of the
# phases together, or all of them while pruning. What methods need beside is set here, once for
# all seeds: DPF and DNW want clipped gradients (dead filters), GSM more momentum and decay, DST and
# STR have no goal but a strength. Started again, it goes on where it stopped.
set -euo pipefail
WHAT=$1 TO=$2 JOBS=${JOBS:-2}
OPTIONS=("${@:3}")
case $WHAT in
  digits)
    config=configs/digits_methods.yaml seeds=0,1,2
    pruned=imp,imp_m_times,imp_m_phases,imp_reprune,imp_swa,swamp,swamp_plus
    after=(pretrain.epochs=30 pretrain.keep_epoch=20)
    copies=(method.copies_from=30)
    gsm=(pretrain.momentum=0.95)
    dst=(method.alpha=3e-3 pretrain.clip_norm=1.0)
    str=(method.initial=-2.5)
    ;;
  cifar10)
    config=configs/cifar10_resnet20_methods_small.yaml seeds=0
    pruned=imp,imp_m_times,imp_reprune,swamp
    after=(pretrain.epochs=9 pretrain.keep_epoch=7)
    copies=(method.copies_from=11)
    gsm=(pretrain.momentum=0.95 pretrain.weight_decay=2e-3)
    dst=(method.alpha=1e-4)
    str=(method.initial=-5)
    ;;
  *) echo "the first argument is digits or cifar10, not $WHAT" >&2; exit 2 ;;
esac

sweep() { # METHODS [SETTING...]
  local settings=(--set "method.name=$1" --set "seed=$seeds") setting
  for setting in "${@:2}"; do settings+=(--set "$setting"); done
  sms-dist sweep --config "$config" --to "$TO/$folder" --jobs "$JOBS" "${settings[@]}" $share "${OPTIONS[@]}"
}

share=--share-dense folder=after
sweep "$pruned" "${after[@]}"
sweep sms soup.rule=uniform,greedy "${after[@]}"
share= folder=during
sweep bimp,bimp_sms,gmp,lc
folder=copies
sweep gmp_sms "${copies[@]}"
folder=clipped
sweep dpf,dnw pretrain.clip_norm=1.0
folder=clipped_copies
sweep dpf_sms "${copies[@]}" pretrain.clip_norm=1.0
folder=gsm
sweep gsm "${gsm[@]}"
folder=dst
sweep dst pruning.goal_sparsity=null "${dst[@]}"
folder=str
sweep str pruning.goal_sparsity=null "${str[@]}"
[[ " ${OPTIONS[*]} " == *" --dry-run "* ]] || sms-dist report "$TO" --format markdown --out "$TO/report"
