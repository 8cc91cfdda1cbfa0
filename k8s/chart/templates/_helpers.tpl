{{/* The name of everything: the release's, which says the chart's once. */}}
{{- define "tentagate.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "tentagate.selector" -}}
app.kubernetes.io/name: tentagate
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tentagate.labels" -}}
{{ include "tentagate.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "tentagate.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "tentagate.caddyfile" -}}
{{ .Values.caddyfile | default (.Files.Get "Caddyfile") }}
{{- end }}

{{- define "tentagate.env" -}}
BACKEND_SERVICES: {{ .Values.services | toJson | quote }}
ALLOWED_ORIGINS: {{ join "," .Values.allowedOrigins | quote }}
TRUSTED_PROXIES: {{ .Values.trustedProxies | quote }}
{{- range $name, $value := .Values.env }}
{{ $name }}: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "tentagate.priorityClass" -}}
{{- if .Values.priorityClass.create }}{{ include "tentagate.fullname" . }}{{ else }}{{ .Values.priorityClass.name }}{{ end -}}
{{- end }}
