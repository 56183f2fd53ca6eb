"""What a tenant's policy lets be kept."""

from app.common.errors import InvalidRequest
from services.principal import Principal


def check_kept(principal: Principal, param: str | None = None) -> None:
    """Raise InvalidRequest where the tenant wants only numbers kept; `param` is what would have to be."""
    if not principal.keeps_content:
        raise InvalidRequest("The tenant's policy is to keep only numbers.", param=param)
