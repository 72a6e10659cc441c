"""Orders, fills and dead-man switches"""

revision = "0005_orders"
down_revision = "0004_matching"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
