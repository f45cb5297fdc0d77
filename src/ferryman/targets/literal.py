"""Keep a user's text as it is where a platform would put the values of variables into it."""


def literal(text: str) -> str:
    """Write text so that Kubernetes, and Vertex AI after it, make the very same of it: there `$(NAME)` is a variable's.

    Source: Kubernetes' API reference, EnvVar.value and Container.args.
    """
    return text.replace("$", "$$") if "$(" in text or "$$" in text else text
