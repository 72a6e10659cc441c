"""A resource monitor inside the process: answers the SDK as a preview would and keeps every request."""

import threading
from typing import Any

from google.protobuf import empty_pb2, struct_pb2
from pulumi.runtime import rpc
from pulumi.runtime.proto import engine_pb2, resource_pb2

from infra.errors import TradestackError
from infra.plan.model import UNKNOWN, Options, PlannedResource, Secret

_ROOT_TYPE = "pulumi:pulumi:Stack"
PASSWORD_TYPE = "random:index/randomPassword:RandomPassword"  # noqa: S105 - a type token
"""Type of the resources whose result stands as a reference in a plan."""
_TOLD_WITHIN = {("aws:eks/cluster:Cluster", "vpcConfig"): ("clusterSecurityGroupId", "vpcId")}
"""What only the provider tells inside an object that is an input too; without it the SDK would say None."""
_LEFT_OUT_FEATURES = frozenset({resource_pb2.RESOURCE_MONITOR_FEATURE_STATE_MIGRATIONS})


def reference(password: str) -> str:
    """What stands in a plan for the password that the resource `password` will generate."""
    return f"${{generated:{password}}}"


class Monitor:
    """Records registrations. Outputs that inputs do not tell stay unknown; nothing is ever invoked or read.

    A generated password is answered with a reference to it, still as a secret, so that whoever applies the
    plan knows where each password belongs.
    """

    def __init__(self, stack: str, project: str) -> None:
        self._prefix = f"urn:pulumi:{stack}::{project}::"
        self._lock = threading.Lock()
        self.resources: dict[str, PlannedResource] = {}
        self.outputs: dict[str, dict[str, Any]] = {}
        """Outputs that components and the stack registered, by URN."""

    def RegisterResource(
        self, request: resource_pb2.RegisterResourceRequest
    ) -> resource_pb2.RegisterResourceResponse:
        """Keep the request and answer with its inputs as known outputs."""
        urn = self._urn(request.type, request.name, request.parent)
        with self._lock:
            if urn in self.resources:
                raise TradestackError(f"two resources have the URN {urn}; give one of them another name")
            self.resources[urn] = _planned(urn, request)
        return resource_pb2.RegisterResourceResponse(urn=urn, object=_answer(request))

    def RegisterResourceOutputs(
        self, request: resource_pb2.RegisterResourceOutputsRequest
    ) -> empty_pb2.Empty:
        """Keep the outputs of a component or of the stack."""
        self.outputs[request.urn] = _in_order(request.outputs)
        return empty_pb2.Empty()

    def Invoke(self, request: resource_pb2.ResourceInvokeRequest) -> None:
        """Refuse: only a provider can answer.

        Raises:
            TradestackError: always.
        """
        raise TradestackError(f"the program calls {request.tok}, which no plan can answer without a provider")

    def ReadResource(self, request: resource_pb2.ReadResourceRequest) -> None:
        """Refuse: only a provider can answer.

        Raises:
            TradestackError: always.
        """
        raise TradestackError(
            f"the program reads {request.type} '{request.id}', which exists only at the provider"
        )

    def GetDeploymentInfo(self, request: empty_pb2.Empty) -> resource_pb2.DeploymentInfo:
        """Every feature of the SDK, so that requests are as complete as for the engine."""
        features = set(resource_pb2.ResourceMonitorFeature.values()) - _LEFT_OUT_FEATURES
        return resource_pb2.DeploymentInfo(supportedFeatures=sorted(features))

    def SignalAndWaitForShutdown(self, request: empty_pb2.Empty) -> empty_pb2.Empty:
        """Nothing runs that would have to end."""
        return empty_pb2.Empty()

    def _urn(self, type_: str, name: str, parent: str) -> str:
        chain = parent.split("::")[2] if parent else _ROOT_TYPE
        qualified = type_ if chain == _ROOT_TYPE else f"{chain}${type_}"
        return f"{self._prefix}{qualified}::{name}"


class Engine:
    """Takes the program's log."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def Log(self, request: engine_pb2.LogRequest) -> None:
        """Keep warnings; errors arrive as exceptions too."""
        if request.severity == engine_pb2.WARNING:
            self.warnings.append(request.message)


def plain(value: struct_pb2.Value) -> Any:
    """A protocol value as Python data, with secrets and unknown values marked."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return _plain_object(value.struct_value)
    if kind == "list_value":
        return [plain(item) for item in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    if kind == "string_value":
        return UNKNOWN if value.string_value == rpc.UNKNOWN else value.string_value
    return value.bool_value if kind == "bool_value" else None


def _plain_object(struct: struct_pb2.Struct) -> Any:
    fields = struct.fields
    signature = fields[rpc._special_sig_key].string_value if rpc._special_sig_key in fields else ""
    if signature == rpc._special_secret_sig:
        return Secret(plain(fields["value"]))
    return _in_order(struct)


def _in_order(struct: struct_pb2.Struct) -> dict[str, Any]:
    """Sorted by key: the protocol's maps have another order in every process."""
    return {key: plain(item) for key, item in sorted(struct.fields.items())}


def _answer(request: resource_pb2.RegisterResourceRequest) -> struct_pb2.Struct:
    answer = struct_pb2.Struct()
    answer.CopyFrom(request.object)
    for output in request.additionalSecretOutputs:
        if output not in answer.fields:
            answer.fields[output].CopyFrom(_secret(rpc.UNKNOWN))
    for (type_, name), keys in _TOLD_WITHIN.items():
        if request.type == type_ and name in answer.fields:
            answer.fields[name].struct_value.update(dict.fromkeys(keys, rpc.UNKNOWN))
    if request.type == PASSWORD_TYPE:
        answer.fields["result"].CopyFrom(_secret(reference(request.name)))
    return answer


def _secret(text: str) -> struct_pb2.Value:
    value = struct_pb2.Value()
    value.struct_value.update({rpc._special_sig_key: rpc._special_secret_sig, "value": text})
    return value


def _planned(urn: str, request: resource_pb2.RegisterResourceRequest) -> PlannedResource:
    dependencies = {name: tuple(sorted(item.urns)) for name, item in request.propertyDependencies.items()}
    return PlannedResource(
        urn=urn,
        type=request.type,
        name=request.name,
        parent=request.parent,
        custom=request.custom,
        inputs=_in_order(request.object),
        dependencies=tuple(sorted(request.dependencies)),
        property_dependencies={name: urns for name, urns in sorted(dependencies.items()) if urns},
        # A reference is the provider's URN and its id, which is not known yet.
        provider=request.provider.rpartition("::")[0],
        options=_options(request),
    )


def _options(request: resource_pb2.RegisterResourceRequest) -> Options:
    timeouts = request.customTimeouts
    return Options(
        protect=request.protect,
        retain_on_delete=request.retainOnDelete,
        delete_before_replace=request.deleteBeforeReplace,
        ignore_changes=tuple(request.ignoreChanges),
        replace_on_changes=tuple(request.replaceOnChanges),
        additional_secret_outputs=tuple(request.additionalSecretOutputs),
        aliases=tuple(_alias(alias) for alias in request.aliases),
        import_id=request.importId,
        deleted_with=request.deletedWith,
        timeouts={
            name: value for name in ("create", "update", "delete") if (value := getattr(timeouts, name, ""))
        },
        version=request.version,
    )


def _alias(alias: Any) -> str:
    if alias.urn:
        return str(alias.urn)
    given = {name: getattr(alias.spec, name) for name in ("name", "type", "stack", "project", "parentUrn")}
    parts = [f"{name}={value}" for name, value in given.items() if value]
    return ",".join([*parts, "noParent"] if alias.spec.noParent else parts)
