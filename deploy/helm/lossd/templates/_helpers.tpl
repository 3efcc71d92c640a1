{{- /* At most 50 characters.  The job of a PodMonitor has this name, in which alerts look for the word. */ -}}
{{- define "lossd.name" -}}
{{- $release := .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- if contains "lossd" $release -}}
{{- $release -}}
{{- else -}}
{{- printf "%s-lossd" (.Release.Name | trunc 44 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "lossd.selector" -}}
app.kubernetes.io/name: lossd
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "lossd.labels" -}}
{{ include "lossd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "lossd.account" -}}
{{- .Values.serviceAccount.name | default (ternary (include "lossd.name" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "lossd.image" -}}
{{- $tag := .Values.image.tag | default (ternary (printf "%s-gpu" .Chart.AppVersion) .Chart.AppVersion .Values.gpu.enabled) -}}
{{- printf "%s:%s" .Values.image.repository $tag -}}
{{- end -}}

{{- /* The bytes of a quantity such as 4Gi or 512Mi; the schema lets no other through. */ -}}
{{- define "lossd.memoryBytes" -}}
{{- $number := .Values.memory | trimSuffix "i" | trimSuffix "G" | trimSuffix "M" | int64 -}}
{{- mul $number (ternary 1073741824 1048576 (hasSuffix "Gi" .Values.memory)) -}}
{{- end -}}

{{- /* How many GPUs a pod has; a claim is of one. */ -}}
{{- define "lossd.gpus" -}}
{{- if .Values.gpu.enabled -}}{{- ternary 1 .Values.gpu.count (not (empty .Values.gpu.claim)) -}}{{- else -}}0{{- end -}}
{{- end -}}

{{- /* What the process itself takes: half a GiB, 40 MiB for each thread that computes, and 256 MiB
for each GPU, which are pinned. */ -}}
{{- define "lossd.ownBytes" -}}
{{- add 536870912 (mul .Values.cores 41943040) (mul (include "lossd.gpus" .) 268435456) -}}
{{- end -}}

{{- /* A fifth of what is left of the memory, so that 1.5 times this and three messages of this size
fit, which is what a server grows by (docs/operations.md, "Sizing"). */ -}}
{{- define "lossd.inflightBytes" -}}
{{- $own := include "lossd.ownBytes" . | int64 -}}
{{- $left := sub (include "lossd.memoryBytes" . | int64) $own -}}
{{- if lt $left 318767104 -}}
{{- fail (printf "memory must be at least %dMi, got %s" (div (add $own 318767104) 1048576) .Values.memory) -}}
{{- end -}}
{{- div $left 5 -}}
{{- end -}}

{{- /* All settings that the chart sets, with those of the values over them. */ -}}
{{- define "lossd.settings" -}}
{{- $inflight := include "lossd.inflightBytes" . | int64 -}}
{{- $most := min $inflight (int64 (.Values.settings.max_inflight_bytes | default $inflight)) 2147483647 -}}
{{- $own := dict
    "address" "0.0.0.0:50051"
    "metrics_host" "0.0.0.0"
    "metrics_port" 9464
    "backend" (ternary "cupy" "numpy" .Values.gpu.enabled)
    "log_format" "json"
    "max_inflight_bytes" $inflight
    "max_message_bytes" (max $most 128)
-}}
{{- $all := merge (deepCopy .Values.settings) $own -}}
{{- $inflight = int64 $all.max_inflight_bytes -}}
{{- $message := min $inflight (int64 $all.max_message_bytes) -}}
{{- $needed := add (include "lossd.ownBytes" .) (div (mul $inflight 3) 2) (mul $message 3) -}}
{{- if gt $needed (include "lossd.memoryBytes" . | int64) -}}
{{- fail (printf "memory must hold max_inflight_bytes 1.5 times and max_message_bytes 3 times, %dMi with its own, got %s" (div $needed 1048576) .Values.memory) -}}
{{- end -}}
{{- toJson $all -}}
{{- end -}}

{{- /* The whole seconds between two scrapes; the schema lets no other units through. */ -}}
{{- define "lossd.scrapeSeconds" -}}
{{- $unit := dict "ms" 1 "s" 1000 "m" 60000 | dig (regexFind "[a-z]+$" .Values.podMonitor.interval) 0 -}}
{{- div (mul (regexFind "^[0-9]+" .Values.podMonitor.interval) $unit) 1000 -}}
{{- end -}}

{{- /* Refuses what scales between more pods and fewer, as Kubernetes would once it is installed. */ -}}
{{- define "lossd.checkReplicas" -}}
{{- $least := .of.minReplicas | int64 -}}
{{- $most := .of.maxReplicas | int64 -}}
{{- if gt $least $most -}}
{{- fail (printf "%s.maxReplicas must be at least its minReplicas of %d, got %d" .name $least $most) -}}
{{- end -}}
{{- end -}}
