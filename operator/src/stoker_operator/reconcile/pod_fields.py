"""What `spec.worker.template` may say, field by field: each field of Kubernetes is allowed, or refused for a reason. Pure.

Pods stay within Pod Security `restricted`. A test compares the names with the API server's: one that a newer Kubernetes adds is
refused until it is listed here.
"""

from collections.abc import Mapping

TEMPLATE = frozenset({"metadata", "spec"})
METADATA = frozenset({"labels", "annotations"})

_DRAIN = "set spec.worker.drainTimeout, from which the operator computes it"
_NODE = "it would open the node to whoever may write a TaskQueue"
_TOKEN = "the operator does not allow tokens of service accounts in workers (operator.serviceAccountTokens of the chart)"  # noqa: S105
_SET = "the operator sets it"

POD = frozenset(
    {
        *("affinity", "containers", "dnsConfig", "dnsPolicy", "hostAliases", "hostUsers", "imagePullSecrets", "initContainers"),
        *("nodeSelector", "preemptionPolicy", "priorityClassName", "runtimeClassName", "schedulerName", "securityContext"),
        *("serviceAccountName", "tolerations", "topologySpreadConstraints", "volumes"),
    }
)
POD_REFUSED: Mapping[str, str] = {
    "activeDeadlineSeconds": "it would end workers that run tasks",
    "automountServiceAccountToken": _TOKEN,
    "enableServiceLinks": f"{_SET} to false: a Service named stoker would set STOKER_PORT, which is a setting",
    "ephemeralContainers": "they are added to a running pod: `kubectl debug`",
    "hostIPC": _NODE,
    "hostNetwork": _NODE,
    "hostPID": _NODE,
    "hostname": "pods of one Deployment would have one name",
    "hostnameOverride": "pods of one Deployment would have one name",
    "nodeName": "it would pass by the scheduler: use nodeSelector or affinity",
    "os": "workers run on Linux",
    "overhead": "the RuntimeClass sets it: use runtimeClassName",
    "priority": "the PriorityClass sets it: use priorityClassName",
    "readinessGates": "a worker is ready when it says so at /readyz",
    "resourceClaims": "claims of dynamic resources are not supported: request an extended resource in spec.worker.resources",
    "resources": "set spec.worker.resources, which are those of the container",
    "restartPolicy": "a Deployment has Always",
    "schedulingGates": "no controller would remove them from the pods of a scale-up",
    "schedulingGroup": "workers are scheduled one by one, as they are needed",
    "serviceAccount": "it is the old name of serviceAccountName",
    "setHostnameAsFQDN": "pods of a Deployment have no FQDN",
    "shareProcessNamespace": f"{_SET}, so that SIGTERM reaches a worker that starts",
    "subdomain": "pods of one Deployment need a headless Service for it, which there is none",
    "terminationGracePeriodSeconds": _DRAIN,
}
CONTAINER = frozenset(
    {
        *("args", "command", "env", "envFrom", "image", "imagePullPolicy", "lifecycle", "livenessProbe", "name", "ports"),
        *("readinessProbe", "resizePolicy", "resources", "securityContext", "startupProbe", "terminationMessagePath"),
        *("terminationMessagePolicy", "volumeMounts", "workingDir"),
    }
)
CONTAINER_REFUSED: Mapping[str, str] = {
    "restartPolicy": "only an init container may have it, as Always: it is a sidecar then",
    "restartPolicyRules": "containers of a Deployment are always started again",
    "stdin": "no terminal is attached to a worker",
    "stdinOnce": "no terminal is attached to a worker",
    "tty": "no terminal is attached to a worker",
    "volumeDevices": "raw block devices are not supported: use volumeMounts",
}
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
WORKER_REFUSED: Mapping[str, str] = {**CONTAINER_REFUSED, "lifecycle": f"{_SET}: its preStop lets the worker finish its tasks"}
INIT_CONTAINER = CONTAINER | {"restartPolicy"}
INIT_REFUSED: Mapping[str, str] = {name: why for name, why in CONTAINER_REFUSED.items() if name != "restartPolicy"}

VOLUME = frozenset(
    {
        *("name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"),
    }
)
_CLAIM = "its driver would be used past the rights on volumes: use persistentVolumeClaim, ephemeral or csi"
VOLUME_REFUSED: Mapping[str, str] = {
    "hostPath": _NODE,
    "gitRepo": "it ran commands on the node, and is gone from Kubernetes",
    "image": "Pod Security `restricted` does not allow it",
    **dict.fromkeys(
        (
            *("awsElasticBlockStore", "azureDisk", "azureFile", "cephfs", "cinder", "fc", "flexVolume", "flocker"),
            *("gcePersistentDisk", "glusterfs", "iscsi", "nfs", "photonPersistentDisk", "portworxVolume", "quobyte", "rbd"),
            *("scaleIO", "storageos", "vsphereVolume"),
        ),
        _CLAIM,
    ),
}
PROJECTION = frozenset({"clusterTrustBundle", "configMap", "downwardAPI", "secret"})
PROJECTION_REFUSED: Mapping[str, str] = {"serviceAccountToken": _TOKEN, "podCertificate": _TOKEN}

POD_SECURITY = frozenset(
    {
        *("appArmorProfile", "fsGroup", "fsGroupChangePolicy", "runAsGroup", "runAsNonRoot", "runAsUser", "seLinuxChangePolicy"),
        *("seLinuxOptions", "seccompProfile", "supplementalGroups", "supplementalGroupsPolicy", "sysctls"),
    }
)
CONTAINER_SECURITY = frozenset(
    {
        *("allowPrivilegeEscalation", "appArmorProfile", "capabilities", "privileged", "procMount", "readOnlyRootFilesystem"),
        *("runAsGroup", "runAsNonRoot", "runAsUser", "seLinuxOptions", "seccompProfile"),
    }
)
SECURITY_REFUSED: Mapping[str, str] = {"windowsOptions": "workers run on Linux"}
PROFILES = ("RuntimeDefault", "Localhost")
SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
SAFE_SYSCTLS = (
    *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start"),
    *("net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports"),
    *("net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes"),
)
"""Those of Pod Security `restricted`."""
APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"
"""Before the field of that name: kubelets up to 1.30 follow it."""
