"""The OpenAPI description, as it really is."""

from typing import Any

from fastapi import FastAPI

from app.controller.auth import KEY_HEADER


def describe(app: FastAPI) -> None:
    """Let the application describe itself without the framework's 422: what it calls so is answered as 400 here."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        description = generate()
        for path in description["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
                if "security" in operation:
                    operation["security"].append({KEY_HEADER.scheme_name: []})
                for parameter in operation.get("parameters", ()):
                    if parameter["in"] == "query" and parameter["name"] == "metadata":
                        # In the form that the framework takes for granted it would be a parameter for each key.
                        parameter |= {"style": "deepObject", "explode": True}
        scheme = KEY_HEADER.model.model_dump(mode="json", by_alias=True, exclude_none=True)
        description["components"]["securitySchemes"][KEY_HEADER.scheme_name] = scheme
        for schema in ("HTTPValidationError", "ValidationError"):
            description["components"]["schemas"].pop(schema, None)
        return description

    app.openapi = openapi  # type: ignore[method-assign]  # the framework's own way to change it
