"""What holds for every test."""

from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is. All else stays as the environment has it.
settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
