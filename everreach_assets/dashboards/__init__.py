"""The Grafana dashboards as code: `make dashboards` writes grafana/*.json from here.

What belongs here: which panels there are (one file a dashboard) and how a panel is built (`panels.py`). What does not:
the metrics (`domain/metric_catalogue.py`), bringing a dashboard to a Grafana (`resources/grafana.py`).

Nothing else imports this package: the library that builds the JSON is there in development only.
"""
