"""The policy pack as the engine starts it: `pulumi preview --policy-pack policy-pack`."""

from infra.policy.pack import run

run()
