{{- define "laurel.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels of all that belongs to a service. Called with a list: the root and the service's name. */}}
{{- define "laurel.labels" -}}
{{ include "laurel.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ (index . 0).Chart.Name }}-{{ (index . 0).Chart.Version }}
{{- end -}}

{{- define "laurel.selector" -}}
app.kubernetes.io/name: laurel
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* The security of every pod: nobody, nothing to write but /tmp, nothing to gain. */}}
{{- define "laurel.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "laurel.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{/* Secrets as files: they stand in no environment and in no argument. A list: the root, the name, the prefix. */}}
{{- define "laurel.volumes" -}}
{{- $root := index . 0 -}}
- name: tmp
  emptyDir: {}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      - secret: { name: {{ index . 2 }}-{{ index . 1 }} }
      {{- with $root.Values.secrets.token }}
      - secret: { name: {{ . }} }
      {{- end }}
{{- with $root.Values.tls.secretName }}
- name: tls
  secret: { secretName: {{ . }}, defaultMode: 0440 }
{{- end }}
{{- end -}}

{{- define "laurel.mounts" -}}
- { name: tmp, mountPath: /tmp }
- { name: secrets, mountPath: /etc/laurel/secrets, readOnly: true }
{{- if .Values.tls.secretName }}
- { name: tls, mountPath: /etc/laurel/tls, readOnly: true }
{{- end }}
{{- end -}}

{{/* A list: the root, the service's name. */}}
{{- define "laurel.env" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $service := index $root.Values.services $name -}}
{{- $env := dict
    "LAUREL_LISTEN" (printf "0.0.0.0:%v" $service.port)
    "LAUREL_SECRETS_DIR" "/etc/laurel/secrets" -}}
{{- if $root.Values.tls.secretName -}}
{{- $_ := set $env "LAUREL_TLS_CERTIFICATE_FILE" "/etc/laurel/tls/tls.crt" -}}
{{- $_ := set $env "LAUREL_TLS_KEY_FILE" "/etc/laurel/tls/tls.key" -}}
{{- $_ := set $env "LAUREL_TLS_CA_FILE" "/etc/laurel/tls/ca.crt" -}}
{{- if $root.Values.tls.requireClientCertificate -}}
{{- $_ := set $env "LAUREL_TLS_REQUIRE_CLIENT_CERTIFICATE" "true" -}}
{{- $_ := set $env "LAUREL_TLS_SERVICE_NAMES" $root.Values.tls.serviceNames -}}
{{- end -}}
{{- else -}}
{{- $_ := set $env "LAUREL_TLS_OFF" "true" -}}
{{- end -}}
{{- if $root.Values.metrics.enabled -}}
{{- $_ := set $env "LAUREL_PROMETHEUS_LISTEN" (printf "0.0.0.0:%v" $root.Values.metrics.port) -}}
{{- end -}}
{{- if $root.Values.keysOff -}}
{{- $_ := set $env "LAUREL_KEYS_OFF" "true" -}}
{{- end -}}
{{- if has $name (list "orchestrator" "notification") -}}
{{- range $target := list "streak" "achievement" "points" "leaderboard" -}}
{{- $_ := set $env (printf "LAUREL_%s_TARGET" (upper $target)) (include "laurel.target" (list $root $target)) -}}
{{- end -}}
{{- end -}}
{{- if eq $name "orchestrator" -}}
{{- $_ := set $env "LAUREL_NOTIFICATION_TARGET" (include "laurel.target" (list $root "notification")) -}}
{{- else -}}
{{- $_ := set $env "LAUREL_ORCHESTRATOR_TARGET" (include "laurel.target" (list $root "orchestrator")) -}}
{{- end -}}
{{- with $service.httpPort -}}
{{- $_ := set $env "LAUREL_UNSUBSCRIBE_LISTEN" (printf "0.0.0.0:%v" .) -}}
{{- end -}}
{{- $env = merge (deepCopy $service.env) $root.Values.env $env -}}
{{- range $key, $value := $env }}
- { name: {{ $key }}, value: {{ $value | quote }} }
{{- end }}
# The name of a replica: its leases are found again under it.
- name: LAUREL_INSTANCE
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
{{- end -}}

{{/* Where a service is: its headless service, so that callers see every replica and share the load among them. */}}
{{- define "laurel.target" -}}
{{ (index . 0).Release.Name }}-{{ index . 1 }}:{{ (index (index . 0).Values.services (index . 1)).port }}
{{- end -}}

{{/* gRPC health. The kubelet's own check speaks no TLS. A list: the root, the service's name. */}}
{{- define "laurel.probe" -}}
{{- $port := (index (index . 0).Values.services (index . 1)).port -}}
{{- if (index . 0).Values.tls.secretName -}}
exec: { command: [python, -m, deploy.local.health, "127.0.0.1:{{ $port }}", {{ (index . 0).Release.Name }}-{{ index . 1 }}] }
{{- else -}}
grpc: { port: {{ $port }} }
{{- end }}
timeoutSeconds: 5
{{- end -}}
