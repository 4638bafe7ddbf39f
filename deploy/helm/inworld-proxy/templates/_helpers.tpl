{{- define "inworld-proxy.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "inworld-proxy.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "inworld-proxy.labels" -}}
{{ include "inworld-proxy.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* What the values say, with what the chart decides: addresses, the drain, Redis. */ -}}
{{- define "inworld-proxy.configuration" -}}
{{- $configuration := deepCopy .Values.configuration -}}
{{- if not $configuration.callers -}}
{{- fail "configuration.callers: name at least one caller. Others reach the Service, so the proxy does not start without; `inworld-proxy token NAME` makes a token and the lines for here." -}}
{{- end -}}
{{- $_ := set $configuration "listen" "0.0.0.0:8080" -}}
{{- $_ := set $configuration "admin" "0.0.0.0:9464" -}}
{{- $_ := set $configuration "time" (merge (dict "drain" (printf "%ds" (int .Values.drainSeconds))) ($configuration.time | default dict)) -}}
{{- if .Values.redis.existingSecret -}}
{{- $shared := dict "shared" "file:/run/secrets/redis/url" "shared_failure" .Values.redis.failure -}}
{{- $_ := set $configuration "limits" (merge $shared ($configuration.limits | default dict)) -}}
{{- end -}}
{{ toYaml $configuration }}
{{- end }}
