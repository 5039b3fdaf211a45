"""Durable jobs: work that is submitted now, done later, and survives whatever dies meanwhile.

An ingress takes a submission, streams its file into the job's folder (``folders.py``) and hands it
to the ``jobs`` deployment (``runner.py``), which writes it into a table (``table.py``) and a
durable queue (``engine.py``). When its turn comes, the runner asks an ingress (``workers.py``) to
work on it (``work.py``): that runs the graph as for any request, and writes the result's files
(``results.py``). Who waits hears of it over HTTP, MQTT (``mqtt.py``) or a webhook
(``webhooks.py``).
"""
