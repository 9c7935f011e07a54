{{/* Names and labels. */}}

{{- define "lookahead.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "lookahead.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "lookahead.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "lookahead.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* What a selector may hold: it never changes. Takes a dict of root and component. */}}
{{- define "lookahead.selector" -}}
app.kubernetes.io/name: {{ include "lookahead.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "lookahead.labels" -}}
{{ include "lookahead.selector" . }}
app.kubernetes.io/part-of: lookahead
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Hooks run before the rest of the release is there, so prepare has an account of its own. */}}
{{- define "lookahead.serviceAccount" -}}
{{- if not .root.Values.serviceAccount.create -}}
{{- required "serviceAccount.name is needed where none is created" .root.Values.serviceAccount.name -}}
{{- else if eq .component "prepare" -}}
{{- printf "%s-prepare" (include "lookahead.fullname" .root) -}}
{{- else -}}
{{- .root.Values.serviceAccount.name | default (include "lookahead.fullname" .root) -}}
{{- end -}}
{{- end }}

{{/* Takes a dict of repository, tag and digest. */}}
{{- define "lookahead.image" -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository .tag -}}
{{- end -}}
{{- end }}
