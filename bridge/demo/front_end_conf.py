"""Gunicorn's configuration of the demo's site: a stock worker class."""

worker_class = "gthread"
threads = 4
control_socket_disable = True
loglevel = "warning"
