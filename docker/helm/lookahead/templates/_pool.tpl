{{/* A pool with what workerDefaults says laid under it, as JSON; checked. Takes a dict of root, name and pool. */}}
{{- define "lookahead.pool" -}}
{{- $pool := mergeOverwrite (deepCopy .root.Values.workerDefaults) (.pool | default dict) -}}
{{- if and $pool.gpu.count (gt (int $pool.devices) (int $pool.gpu.count)) -}}
{{- fail (printf "workers.%s: %v devices, but %v GPUs" .name $pool.devices $pool.gpu.count) -}}
{{- end -}}
{{- if and $pool.scaling.enabled (not .root.Values.keda.prometheus.serverAddress) -}}
{{- fail (printf "workers.%s scales, so keda.prometheus.serverAddress is needed" .name) -}}
{{- end -}}
{{- $interval := index (mergeOverwrite (deepCopy .root.Values.settings) $pool.settings) "LOOKAHEAD_CHECKPOINT_SECONDS" | default 60 -}}
{{- if lt (int $pool.terminationGracePeriodSeconds) (int $interval) -}}
{{- fail (printf "workers.%s: terminationGracePeriodSeconds is below LOOKAHEAD_CHECKPOINT_SECONDS" .name) -}}
{{- end -}}
{{- toJson $pool -}}
{{- end }}

{{- define "lookahead.poolEnv" -}}
- name: LOOKAHEAD_SANDBOX
  value: {{ .pod.sandbox | quote }}
- name: LOOKAHEAD_TORCHSCRIPT_ENABLED
  value: {{ .pod.torchscript | quote }}
- name: LOOKAHEAD_JOB_KINDS
  value: {{ join "," .pod.jobKinds | quote }}
{{- with int .pod.devices }}
- name: LOOKAHEAD_DEVICES
  value: {{ . | quote }}
{{- end }}
{{- if not .pod.gpu.count }}
- name: NVIDIA_VISIBLE_DEVICES
  value: void  # the image says all, and a node whose default runtime is NVIDIA's would obey
{{- end }}
{{- /* A share of CPU does not show in the affinity mask that the worker counts. */}}
{{- $resources := .pod.resources }}
{{- $bound := hasKey ($resources.limits | default dict) "cpu" | ternary "limits.cpu" "requests.cpu" }}
{{- $known := or (hasKey ($resources.limits | default dict) "cpu") (hasKey ($resources.requests | default dict) "cpu") }}
{{- if and $known (not (hasKey .pod.settings "LOOKAHEAD_THREADS")) }}
- name: LOOKAHEAD_THREADS
  valueFrom: { resourceFieldRef: { resource: {{ $bound }}, divisor: "1" } }
{{- end }}
{{- end }}
