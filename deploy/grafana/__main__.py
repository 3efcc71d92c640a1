"""Writes the dashboard: ``python -m deploy.grafana`` from the root of the repository.

Its queries need nothing but a scrape of lossd, no recording rules and no other exporter.
"""

from pathlib import Path

from deploy.grafana.board import text

Path(__file__).with_name("lossd.json").write_text(text())
