"""A method is a function from the configuration to a recipe: pretraining and phases."""

from __future__ import annotations

from dataclasses import replace

from sms_dist.config import Config
from sms_dist.lookup import lookup
from sms_dist.methods.bimp import BimpKeys, bimp, bimp_sms
from sms_dist.methods.dense import dense
from sms_dist.methods.dnw import dnw
from sms_dist.methods.dpf import DpfSmsKeys, dpf, dpf_sms
from sms_dist.methods.dst import dst
from sms_dist.methods.gmp import gmp, gmp_sms
from sms_dist.methods.gradual import CopiesKeys
from sms_dist.methods.gsm import gsm
from sms_dist.methods.imp import imp
from sms_dist.methods.imp_m_phases import imp_m_phases
from sms_dist.methods.imp_m_times import imp_m_times
from sms_dist.methods.imp_reprune import imp_reprune
from sms_dist.methods.imp_swa import imp_swa
from sms_dist.methods.lc import LcKeys, lc
from sms_dist.methods.method import Method
from sms_dist.methods.single_training import StartKeys
from sms_dist.methods.sms import sms
from sms_dist.methods.str_ import str_
from sms_dist.methods.swamp import SwampKeys, swamp, swamp_plus
from sms_dist.phases import Recipe
from sms_dist.sparse_rules import options

METHODS: dict[str, Method] = {
    # after training
    "sms": Method("m candidates per phase, their soup starts the next", sms),
    "imp": Method("iterative magnitude pruning: one candidate per phase", imp),
    "imp_m_times": Method("IMP that retrains m times as long in each phase", imp_m_times),
    "imp_m_phases": Method("IMP in m times as many phases", imp_m_phases),
    "imp_reprune": Method("m IMP runs side by side, averaged and pruned again", imp_reprune),
    "imp_swa": Method("IMP that averages the weights after each epoch of a phase", imp_swa),
    "swamp": Method("rewound particles, each averaged on its way, then together", swamp, SwampKeys),
    "swamp_plus": Method("SWAMP with one particle in the early phases", swamp_plus, SwampKeys),
    # during training: pretrain.epochs is the whole budget
    "bimp": Method("IMP within the budget of one training", bimp, BimpKeys),
    "bimp_sms": Method("BIMP with a soup in each phase", bimp_sms, BimpKeys),
    "gmp": Method("gradual magnitude pruning", gmp),
    "gmp_sms": Method("GMP with soups between pruning steps", gmp_sms, CopiesKeys),
    "dpf": Method("gradual pruning in which pruned weights go on learning", dpf, options.Dpf),
    "dpf_sms": Method("DPF with soups between pruning steps", dpf_sms, DpfSmsKeys),
    "gsm": Method("only the weights that matter most get a gradient", gsm, StartKeys),
    "dnw": Method("the largest weights compute, all of them learn", dnw),
    "lc": Method("weights drawn ever harder to their pruned selves", lc, LcKeys),
    "dst": Method("a learned threshold for each neuron", dst, options.Dst),
    "str": Method("a learned soft threshold for each layer", str_, options.Str),
    # for comparison
    "dense": Method("nothing is pruned", dense),
}


def recipe(config: Config) -> Recipe:
    """The recipe of the configured method; ValueError where it cannot be."""
    found = lookup(METHODS, config.method.name, "method.name")(config)
    _check_from(config, found)
    return replace(found, kept_epoch=_kept_epoch(config, found))


def starts_from_dense(found: Recipe, config: Config) -> bool:
    """Does the method begin with the fully trained dense model?"""
    return found.pretrain == config.pretrain and found.dense_epochs == config.pretrain.epochs


def _check_from(config: Config, found: Recipe) -> None:
    if config.pretrain.from_ is not None and not starts_from_dense(found, config):
        raise ValueError(
            f"pretrain.from={config.pretrain.from_}, but method.name={config.method.name} prunes "
            "while it trains, from the initial weights; remove pretrain.from"
        )


def _kept_epoch(config: Config, found: Recipe) -> int | None:
    wanted, needed = config.pretrain.keep_epoch, found.kept_epoch
    if wanted is not None and needed is not None and wanted != needed:
        raise ValueError(
            f"pretrain.keep_epoch={wanted}, but method.name={config.method.name} rewinds to epoch "
            f"{needed}; remove it, or change retrain.epochs"
        )
    if wanted is not None and wanted > found.dense_epochs:
        raise ValueError(
            f"pretrain.keep_epoch={wanted} is after the {found.dense_epochs} epochs of dense "
            "training; lower it"
        )
    return wanted if needed is None else needed
