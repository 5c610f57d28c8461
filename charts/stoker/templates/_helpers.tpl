{{/* The prefix of every name: the release's, so that `helm install stoker` gives stoker-operator. */}}
{{- define "stoker.fullname" -}}
{{- $default := ternary .Release.Name (printf "%s-stoker" .Release.Name) (contains "stoker" .Release.Name) -}}
{{- default $default .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* Labels of everything. */}}
{{- define "stoker.labels" -}}
app.kubernetes.io/part-of: stoker
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* What finds the pods of one part: (list . "gateway"). Never changes, since a Deployment's selector cannot. */}}
{{- define "stoker.selector" -}}
{{- $root := first . -}}
app.kubernetes.io/name: {{ printf "stoker-%s" (last .) }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
{{- end }}

{{/* Name, namespace and labels of an object of one part: (list . "gateway"). */}}
{{- define "stoker.metadata" -}}
{{- $root := first . -}}
name: {{ include "stoker.fullname" $root }}-{{ last . }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "stoker.selector" . | nindent 2 }}
  {{- include "stoker.labels" $root | nindent 2 }}
{{- end }}

{{/* A pod that the "restricted" Pod Security Standard admits: (list . uid). */}}
{{- define "stoker.podSecurity" -}}
runAsNonRoot: true
{{- if eq (first .).Values.podSecurity.userIds "Fixed" }}
runAsUser: {{ last . }}
runAsGroup: {{ last . }}
fsGroup: {{ last . }}
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "stoker.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Where a pod of one part may run: (list . "gateway"). */}}
{{- define "stoker.placement" -}}
{{- $root := first . -}}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $part := get $root.Values (last .) }}
{{- range $field := list "nodeSelector" "tolerations" "affinity" }}
{{- with get $part $field }}
{{ $field }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* Annotations of a pod of one part; a changed URL restarts it. */}}
{{- define "stoker.podAnnotations" -}}
{{- $root := first . -}}
{{- /* The cluster-autoscaler gives no node back that has a pod with an emptyDir, unless the pod says that nothing is lost with it. */ -}}
{{- $safe := dict "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes" "tmp" -}}
{{- $annotations := merge (deepCopy (get $root.Values (last .)).podAnnotations) $safe -}}
{{- if $root.Values.redis.url }}
{{- $_ := set $annotations "stoker.dev/redis-url-checksum" (sha256sum $root.Values.redis.url) }}
{{- end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Secrets that the operator makes for the chart's own Redis. Not part of the release: a new installation finds them. */}}
{{- define "stoker.redisPasswordSecret" -}}
{{ include "stoker.fullname" . }}-redis-password
{{- end }}
{{- define "stoker.gatewaySecret" -}}
{{ include "stoker.fullname" . }}-gateway-redis
{{- end }}

{{/* Who makes the Secret stoker-redis of a namespace with TaskQueues. */}}
{{- define "stoker.tenantCredentials" -}}
{{ default (ternary "Generated" "Provided" .Values.redis.enabled) .Values.tenants.credentials }}
{{- end }}

{{/* The environment that every program of ours reads: (list . "gateway"). */}}
{{- define "stoker.env" -}}
{{- $root := first . -}}
{{- $redis := $root.Values.redis -}}
{{- $given := add (ternary 1 0 $redis.enabled) (ternary 1 0 (ne $redis.url "")) (ternary 1 0 (ne $redis.existingSecret.name "")) -}}
{{- if eq $given 0 }}
{{- fail "No Redis: set redis.url or redis.existingSecret.name, or redis.enabled=true for a single server of the chart's own" }}
{{- else if gt $given 1 }}
{{- fail "More than one Redis: give exactly one of redis.enabled=true, redis.url and redis.existingSecret.name" }}
{{- end -}}
- name: STOKER_REDIS_URL
{{- if not $redis.enabled }}
  valueFrom:
    secretKeyRef:
      name: {{ default (printf "%s-redis-url" (include "stoker.fullname" $root)) $redis.existingSecret.name }}
      key: {{ ternary $redis.existingSecret.key "url" (ne $redis.existingSecret.name "") }}
{{- else if eq (last .) "operator" }}
  # With the namespace, since tenants elsewhere are given the same address. The operator makes the password, and reads it through
  # the API: its pod must not wait for a Secret that only it makes.
  value: redis://{{ include "stoker.fullname" $root }}-redis.{{ $root.Release.Namespace }}.svc:6379/0
- name: STOKER_REDIS_SECRET
  value: {{ include "stoker.redisPasswordSecret" $root }}
- name: STOKER_GATEWAY_SECRET
  value: {{ include "stoker.gatewaySecret" $root }}
{{- else }}
  valueFrom:
    secretKeyRef:
      name: {{ include "stoker.gatewaySecret" $root }}
      key: STOKER_REDIS_URL
{{- end }}
- name: STOKER_LOG_LEVEL
  value: {{ $root.Values.log.level | quote }}
- name: STOKER_LOG_FORMAT
  value: {{ $root.Values.log.format | quote }}
{{- end }}
