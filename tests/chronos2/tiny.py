"""A tiny random Chronos-2, and markets with holes, for tests."""

from dataclasses import replace

import numpy as np

from trainables.market.panel import BAR

QUANTILES = [0.01, *(round(0.05 * i, 2) for i in range(1, 20)), 0.99]


def tiny_model(seed=0, d_model=32, layers=2, context=512, dropout=0.1, patches=4):
    import torch
    from chronos.chronos2.config import Chronos2CoreConfig
    from chronos.chronos2.model import Chronos2Model

    torch.set_num_threads(1)
    config = Chronos2CoreConfig(
        d_model=d_model,
        d_kv=d_model // 4,
        d_ff=2 * d_model,
        num_layers=layers,
        num_heads=4,
        dropout_rate=dropout,
        layer_norm_epsilon=1e-6,
        initializer_factor=0.05,
        feed_forward_proj="relu",
        vocab_size=2,
        pad_token_id=0,
        rope_theta=10000.0,
        reg_token_id=1,
        chronos_config={
            "context_length": context,
            "input_patch_size": 16,
            "input_patch_stride": 16,
            "output_patch_size": 16,
            "max_output_patches": patches,
            "quantiles": QUANTILES,
            "use_reg_token": True,
            "use_arcsinh": True,
            "time_encoding_scale": context,
        },
        chronos_pipeline_class="Chronos2Pipeline",
        architectures=["Chronos2Model"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Chronos2Model(config).eval()


def holey(panel, symbol, rows):
    """The panel without a symbol's bars on some rows."""
    column = panel.symbols.index(symbol)
    arrays = {}
    for name in (*BAR, "tradable", "session_last"):
        values = np.array(getattr(panel, name))
        values[rows, column] = np.nan if values.dtype == float else False
        arrays[name] = values
    return replace(panel, **arrays)


def disturbed(panel, rows, seed=0):
    """The panel with other prices and volumes on some rows."""
    factor = np.exp(np.random.default_rng(seed).normal(0.0, 0.3, panel.close[rows].shape))
    arrays = {}
    for name in BAR:
        values = np.array(getattr(panel, name))
        values[rows] *= factor
        arrays[name] = values
    return replace(panel, **arrays)
