"""Suggestions for unknown flags: names that other libraries use, and names that are similar."""

import difflib
import re
from collections.abc import Sequence

_OTHER_NAMES = {
    "accumulate": "accum accumulation grad_accum gradient_accumulation accumulate_grad_batches "
    "gradient_accumulation_steps grad_accum_steps microbatches",
    "agents": "population pop_size population_size num_agents n_agents",
    "b2": "beta2 adam_beta2",
    "batch_size": "b batch bs bsz batchsize minibatch mini_batch train_batch_size mbs",
    "clip": "clipping grad_clip clip_grad gradient_clip clip_norm max_norm max_grad_norm grad_norm "
    "clip_grad_norm gradient_clip_val",
    "context": "seq_len seqlen sequence_length block_size context_length max_length ctx",
    "data": "dataset data_set ds",
    "data_dir": "data_path data_root data_folder dataset_path root datadir",
    "depth": "layers num_layers n_layers n_layer hidden_layers",
    "dropout": "drop p_drop dropout_rate",
    "evaluate_every": "eval_every eval_interval eval_freq eval_steps val_every val_interval "
    "validate_every log_every log_interval log_steps logging_steps",
    "evaluate_on": "eval_size eval_batches val_size",
    "ignore": "exclude ignore_columns drop_columns",
    "keep": "keep_last max_to_keep save_total_limit",
    "learning_rate": "lr rate eta alpha step_size stepsize learningrate peak_lr base_lr init_lr "
    "max_lr",
    "model": "arch architecture net network",
    "optimizer": "opt optim solver algo algorithm",
    "patience": "early_stop early_stopping early_stopping_patience",
    "precision": "dtype bf16 fp16 half amp bfloat16 mixed_precision",
    "resume": "continue restart restore checkpoint ckpt resume_from from_checkpoint",
    "runs": "out output outdir output_dir out_dir logdir log_dir save_dir run_dir results dir "
    "folder path o",
    "save_every": "checkpoint_every ckpt_every save_interval save_freq save_steps",
    "scale": "quick fast debug smoke small full test",
    "schedule": "scheduler sched lr_schedule lr_scheduler lr_decay cosine warmup warmup_steps",
    "seed": "random_seed rng random_state rng_seed prng",
    "seeds": "num_seeds n_seeds repeats num_runs trials n_runs networks",
    "steps": "epoch epochs num_epochs n_epochs max_epochs iterations iters iter num_steps n_steps "
    "max_steps max_iter max_iters num_iterations train_steps total_steps niter n",
    "target": "label labels label_column target_column y",
    "tensorboard": "tb tensor_board",
    "tower": "height levels tower_height",
    "vocabulary_size": "vocab vocab_size num_tokens",
    "warm_start": "init_from pretrained finetune fine_tune load from weights init warmstart",
    "weight_decay": "wd l2 decay regularization weightdecay",
    "width": "hidden hidden_size hidden_dim units dim channels n_embd d_model features",
}
_REMARKS = {
    "epochs": "--steps (an epoch is the number of examples divided by --batch-size)",
    "momentum": "--optimizer momentum, which has momentum 0.9",
    "nesterov": "--optimizer nesterov",
    "adam": "--optimizer adam",
    "adamw": "--optimizer adamw",
    "sgd": "--optimizer sgd",
    "lion": "--optimizer lion",
    "muon": "--optimizer muon",
    "prodigy": "--optimizer prodigy",
    "rmsprop": "--optimizer rmsprop",
}
_REMARKS |= dict.fromkeys(("epoch", "num_epochs", "n_epochs", "max_epochs"), _REMARKS["epochs"])
_FLAG_OF = {guess: name for name, words in _OTHER_NAMES.items() for guess in words.split()}


def suggest(unknown: str, known: Sequence[str]) -> str:
    """Returns the flag that an unknown flag may stand for, or "".

    Args:
      unknown: such as `--lr` or `--lr=0.1`.
      known: the names of the settings.

    Example:
      >>> suggest("--lr", ["learning_rate", "runs"]), suggest("--lr", ["runs"])
      ('--learning-rate', '')
      >>> suggest("--seeeds", ["seed", "seeds"])
      '--seeds'
    """
    word = unknown.split("=")[0].lstrip("-").replace("-", "_").lower()
    remark = _REMARKS.get(word, "")
    flags = [flag.replace("-", "_") for flag in re.findall(r"--([\w-]+)", remark)]
    if remark and {*flags} <= {*known}:
        return remark
    near = [name for name in (word, _FLAG_OF.get(word, "")) if name in known]
    near += difflib.get_close_matches(word, known, n=1, cutoff=0.7)
    return "--" + near[0].replace("_", "-") if near else ""
