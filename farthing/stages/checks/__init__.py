"""The doctor's checks: whether a stage of reinforcement learning can learn from what it would sample. Torch-free.

Each check looks at the evidence and returns what it measured, with one sentence and one remedy where something is
amiss; `table.CHECKS` lists them.
"""
