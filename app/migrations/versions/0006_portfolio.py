"""Places in the matching stream; positions and their history"""

revision = "0006_portfolio"
down_revision = "0005_orders"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
