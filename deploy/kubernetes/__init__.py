"""Laurel in a cluster: the chart, rendered."""
