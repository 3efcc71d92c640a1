{{- define "lossd.name" -}}
{{- if contains "lossd" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-lossd" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "lossd.selector" -}}
app.kubernetes.io/name: lossd
app.kubernetes.io/instance: {{ .Release.Name }}
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

{{- /* A twelfth of the memory, less what the process itself takes. */ -}}
{{- define "lossd.inflightBytes" -}}
{{- $left := sub (include "lossd.memoryBytes" . | int64) 536870912 -}}
{{- if lt $left 402653184 -}}
{{- fail (printf "memory must be at least 896Mi, got %s" .Values.memory) -}}
{{- end -}}
{{- div $left 12 -}}
{{- end -}}

{{- /* All settings that the chart sets, with those of the values over them. */ -}}
{{- define "lossd.settings" -}}
{{- $inflight := include "lossd.inflightBytes" . | int64 -}}
{{- $own := dict
    "address" "0.0.0.0:50051"
    "metrics_host" "0.0.0.0"
    "metrics_port" 9464
    "backend" (ternary "cupy" "numpy" .Values.gpu.enabled)
    "log_format" "json"
    "max_inflight_bytes" $inflight
    "max_message_bytes" (min $inflight 2147483647)
-}}
{{- toJson (merge (deepCopy .Values.settings) $own) -}}
{{- end -}}
