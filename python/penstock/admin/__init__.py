"""The admin listener: metrics, health and status over HTTP, for machines and people on this computer.

`guard.py` decides who may ask, `metrics.py` writes the Prometheus text, `app.py` joins the paths, `listener.py` opens
the socket and follows the configuration. What must not live here: anything on the way of a proxied request.
"""

from penstock.admin.listener import AdminListener

__all__ = ["AdminListener"]
