"""Leases, journal and snapshots of the matching engine"""

revision = "0004_matching"
down_revision = "0003_auth"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
