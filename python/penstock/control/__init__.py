"""The control plane: takes a configuration from its source to the data plane and keeps the process alive around it.

`controller.py` holds the desired state and `prepare.py` the road to it; `lifecycle.py`, `signals.py`, `watch.py` and
`channel.py` are how a process is told what to do. What must not live here: the model (`config`), HTTP (`admin`),
words for people (`cli`).
"""
