"""Whether security contexts stay within Pod Security `restricted`. Pure.

Source: the Kubernetes page "Pod Security Standards".
"""

from collections.abc import Callable, Mapping
from typing import Any

from stoker_operator.reconcile import pod_fields as fields
from stoker_operator.reconcile.refused import check_names, mapping, objects, refuse

_RESTRICTED = "Pod Security `restricted` does not allow it"


def check_security(at: str, value: Any, *, of_pod: bool) -> None:
    """Raises Invalid naming the field."""
    context = mapping(at, value)
    check_names(at, context, fields.POD_SECURITY if of_pod else fields.CONTAINER_SECURITY, fields.SECURITY_REFUSED)
    forbidden: Mapping[str, Callable[[Any], bool]] = {
        "privileged": lambda found: found is not False,
        "allowPrivilegeEscalation": lambda found: found is not False,
        "runAsNonRoot": lambda found: found is not True,
        "runAsUser": lambda found: not isinstance(found, int) or isinstance(found, bool) or found <= 0,
        "procMount": lambda found: found != "Default",
    }
    for name, is_forbidden in forbidden.items():
        if name in context and is_forbidden(context[name]):
            refuse(f"{at}.{name}", _RESTRICTED)
    for name in ("seccompProfile", "appArmorProfile"):
        if name in context and mapping(f"{at}.{name}", context[name]).get("type") not in fields.PROFILES:
            refuse(f"{at}.{name}.type", f"{_RESTRICTED}: use RuntimeDefault or Localhost")
    _check_capabilities(f"{at}.capabilities", mapping(f"{at}.capabilities", context.get("capabilities", {})))
    selinux = mapping(f"{at}.seLinuxOptions", context.get("seLinuxOptions", {}))
    if selinux.get("type", "") not in fields.SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        refuse(f"{at}.seLinuxOptions", _RESTRICTED)
    for sysctl in objects(f"{at}.sysctls", context.get("sysctls", [])):
        if sysctl.get("name") not in fields.SAFE_SYSCTLS:
            refuse(f"{at}.sysctls", f"{_RESTRICTED}: allowed are {', '.join(sorted(fields.SAFE_SYSCTLS))}")


def check_annotations(at: str, annotations: Mapping[str, Any]) -> None:
    """Raises Invalid for an annotation that loosens what a security context says."""
    for name, value in annotations.items():
        confined = value == "runtime/default" or str(value).startswith("localhost/")
        if name.startswith(fields.APPARMOR_ANNOTATION) and not confined:
            refuse(f"{at}.{name}", _RESTRICTED)


def _check_capabilities(at: str, capabilities: Mapping[str, Any]) -> None:
    check_names(at, capabilities, {"add", "drop"}, {})
    if capabilities.get("add"):
        refuse(f"{at}.add", "workers and their sidecars have no capabilities")
    dropped = capabilities.get("drop", ["ALL"])
    if not isinstance(dropped, list) or "ALL" not in dropped:
        refuse(f"{at}.drop", f"{_RESTRICTED}: drop ALL")
