"""Metrics of this package inside other tools, each a thin adapter around `fastent.Accumulator`.

Modules are named after their host, which is imported with them: `torchmetrics`, `transformers`,
`sklearn`.
"""
