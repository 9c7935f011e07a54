{{/* What the pods of all components have in common. Each takes a dict of root and component. */}}

{{/*
Services of the namespace are not put into the environment: one named "lookahead" would set LOOKAHEAD_PORT to
an address, which is a setting of ours. The shared process namespace gives each pod an init that reaps.
*/}}
{{- define "lookahead.podSpec" -}}
serviceAccountName: {{ include "lookahead.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false
shareProcessNamespace: true
securityContext: {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "lookahead.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where a pod may run. Takes a dict of root, component and pod (the values of the component). */}}
{{- define "lookahead.placement" -}}
{{- with .pod.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .pod.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pod.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pod.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "lookahead.selector" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}

{{/* Addresses and credentials of the stores, as docker/docker-compose.yml names them. */}}
{{- define "lookahead.storeEnv" -}}
{{- $stores := .root.Values.stores -}}
- name: LOOKAHEAD_DATABASE_URL
  valueFrom: { secretKeyRef: { name: {{ $stores.secret }}, key: {{ $stores.keys.database }} } }
{{- with $stores.keys.broker }}
- name: LOOKAHEAD_BROKER_URL
  valueFrom: { secretKeyRef: { name: {{ $stores.secret }}, key: {{ . }} } }
{{- end }}
- name: LOOKAHEAD_BLOBS_URL
  {{- if and (eq .component "prepare") (not .root.Values.prepare.makeBucket) }}
  value: file:///data/blobs  # prepare makes the bucket of any other address
  {{- else }}
  value: {{ $stores.blobs.url | quote }}
  {{- end }}
{{- with $stores.blobs.endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- if $stores.blobs.allowHttp }}
- name: AWS_ALLOW_HTTP
  value: "true"
{{- end }}
{{- with $stores.blobs.region }}
- name: AWS_REGION
  value: {{ . | quote }}
{{- end }}
{{- if $stores.keys.accessKeyId }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: { secretKeyRef: { name: {{ $stores.secret }}, key: {{ $stores.keys.accessKeyId }} } }
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: { secretKeyRef: { name: {{ $stores.secret }}, key: {{ $stores.keys.secretAccessKey }} } }
{{- end }}
{{- end }}

{{/* Plain settings, those of the component over those of all. Takes a dict of root and pod. */}}
{{- define "lookahead.settingsEnv" -}}
{{- range $name, $value := mergeOverwrite (deepCopy .root.Values.settings) .pod.settings }}
{{- /* A number of a values file is a float, and %v would write 2e+10 */}}
- name: {{ $name }}
  value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end }}
{{- with concat .root.Values.extraEnv .pod.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The only writable places: /tmp, and /data for what is in flight. Takes the scratch of a component. */}}
{{- define "lookahead.volumes" -}}
- name: tmp
  emptyDir: { sizeLimit: 1Gi }
- name: data
  {{- if .storageClassName }}
  ephemeral:
    volumeClaimTemplate:
      spec:
        accessModes: [ReadWriteOnce]
        storageClassName: {{ .storageClassName }}
        resources: { requests: { storage: {{ .size }} } }
  {{- else }}
  emptyDir: { sizeLimit: {{ .size }} }
  {{- end }}
{{- end }}

{{- define "lookahead.mounts" -}}
- { name: tmp, mountPath: /tmp }
- { name: data, mountPath: /data }
{{- end }}
