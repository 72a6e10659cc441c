"""Limits, kill switches, margin calls and their audit"""

revision = "0007_risk"
down_revision = "0006_portfolio"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
