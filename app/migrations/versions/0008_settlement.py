"""Settlement of matched orders and margin loans"""

revision = "0008_settlement"
down_revision = "0007_risk"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
