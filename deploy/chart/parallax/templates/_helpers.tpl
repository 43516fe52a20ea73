{{- define "parallax.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "parallax.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "parallax.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "parallax.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Labels of every object. Argument: [root, component]. */}}
{{- define "parallax.labels" -}}
{{- $root := index . 0 -}}
{{ include "parallax.selector" . }}
app.kubernetes.io/part-of: parallax
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* What selects the pods of a component. */}}
{{- define "parallax.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "parallax.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Image. Argument: [root, suffix of the tag]. */}}
{{- define "parallax.image" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $root.Chart.AppVersion .tag }}{{ index $ 1 }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The URL of the storage, as environment: it has a password, which is no business of a process list. */}}
{{- define "parallax.storageEnv" -}}
{{- if .Values.clickhouse.enabled }}
- name: CLICKHOUSE_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "parallax.clickhouseSecret" . }}, key: password}}
- name: PARALLAX_STORAGE
  value: clickhouse://parallax:$(CLICKHOUSE_PASSWORD)@{{ include "parallax.fullname" . }}-clickhouse:9000/parallax
{{- else if eq .Values.storage.type "clickhouse" }}
- name: PARALLAX_STORAGE
  valueFrom: {secretKeyRef: {name: {{ .Values.storage.clickhouse.existingSecret }}, key: {{ .Values.storage.clickhouse.key }}}}
{{- end }}
{{- end }}

{{- define "parallax.clickhouseSecret" -}}
{{- default (printf "%s-clickhouse" (include "parallax.fullname" .)) .Values.clickhouse.existingSecret }}
{{- end }}

{{/* What values.schema.json cannot say. */}}
{{- define "parallax.validate" -}}
{{- if and .Values.clickhouse.enabled (ne .Values.storage.type "clickhouse") }}
{{- fail "clickhouse.enabled needs storage.type clickhouse" }}
{{- end }}
{{- if and (eq .Values.storage.type "clickhouse") (not .Values.clickhouse.enabled) (not .Values.storage.clickhouse.existingSecret) }}
{{- fail "storage.type clickhouse needs storage.clickhouse.existingSecret, or clickhouse.enabled" }}
{{- end }}
{{- if and .Values.clickhouse.enabled (not .Values.clickhouse.password) (not .Values.clickhouse.existingSecret) }}
{{- fail "clickhouse.enabled needs clickhouse.password or clickhouse.existingSecret" }}
{{- end }}
{{- if and .Values.ui.enabled .Values.ui.separate (ne .Values.storage.type "clickhouse") }}
{{- fail "ui.separate needs storage.type clickhouse: the engine of the relay's process serves no other" }}
{{- end }}
{{- if and .Values.image.digest (eq .Values.storage.type "embedded") }}
{{- fail "image.digest names one image, storage.type embedded needs two: use tags, or another storage" }}
{{- end }}
{{- end }}

{{/* Where a pod runs. Argument: a part's values. */}}
{{- define "parallax.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A container that needs nothing of the node. */}}
{{- define "parallax.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
