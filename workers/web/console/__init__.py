"""The web console under `/console/`, which shows the state of the service and lets operators make decisions."""
