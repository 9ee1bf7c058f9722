"""What a training step needs before it is run: parameters, FLOPs, and the memory of each device.

rehearsal.py   one micro-batch of any stage on tensors without data ──► events and FLOPs
events.py      what happened, in order: bytes that came and went, blocks entered and left, gradients made
parts.py       a module's parameters, part by part
placement.py   what each kind of parallelism holds, and what it adds and drops at each event
zero.py        the same for DeepSpeed
memory.py      all of it at the fullest moment
"""
