"""What all tests share: Hypothesis without a stopwatch, because a busy machine is not a bug."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "aico",
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("aico")
