{{- define "replica.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* A CronJob's name has at most 52 characters, and the proof's ends in "-proof". */}}
{{- define "replica.fullname" -}}
{{- $name := include "replica.name" . }}
{{- $default := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- .Values.fullnameOverride | default $default | trunc 46 | trimSuffix "-" }}
{{- end }}

{{- define "replica.selector" -}}
app.kubernetes.io/name: {{ include "replica.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "replica.labels" -}}
{{ include "replica.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "replica.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "replica.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- /* The keys of the Secret, with commas between them. */}}
{{- define "replica.secretKeys" -}}
{{- $keys := .Values.secret.keys }}
{{- if not .Values.secret.existing }}
{{- $keys = list }}
{{- with .Values.secret }}
{{- if .primaryPassword }}{{ $keys = append $keys "primary-password" }}{{ end }}
{{- if .ownPassword }}{{ $keys = append $keys "own-password" }}{{ end }}
{{- if .archiveIdentity }}{{ $keys = append $keys "archive-identity" }}{{ end }}
{{- if .awsCredentials }}{{ $keys = append $keys "aws-credentials" }}{{ end }}
{{- end }}
{{- end }}
{{- join "," $keys }}
{{- end }}

{{- /* The names by which the replica is asked over HTTP: the Service's, its own in the Service, and those of the values. */}}
{{- define "replica.httpHosts" -}}
{{- $hosts := .Values.http.hosts }}
{{- $service := include "replica.fullname" . }}
{{- range list "" ".svc" ".svc.cluster.local" }}
{{- $name := printf "%s.%s%s" $service $.Release.Namespace . }}
{{- $hosts = concat $hosts (list $name (printf "$(POD_NAME).%s" $name)) }}
{{- end }}
{{- prepend $hosts $service | join "," }}
{{- end }}

{{- define "replica.secretName" -}}
{{- .Values.secret.existing | default (include "replica.fullname" .) }}
{{- end }}

{{- /* A user without any right on the node. */}}
{{- define "replica.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "replica.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* How to reach the archive: for the replica and for the proof. */}}
{{- define "replica.archiveEnv" -}}
{{- $keys := splitList "," (include "replica.secretKeys" .) }}
{{- with .Values.archive.endpoint }}
- name: REPLICA_ARCHIVE_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- with .Values.archive.region }}
- name: REPLICA_ARCHIVE_REGION
  value: {{ . | quote }}
- name: AWS_REGION
  value: {{ . | quote }}
{{- end }}
{{- if has "archive-identity" $keys }}
- name: REPLICA_ARCHIVE_IDENTITY
  value: /run/secrets/replica/archive-identity
{{- end }}
{{- if has "aws-credentials" $keys }}
- name: AWS_SHARED_CREDENTIALS_FILE
  value: /run/secrets/replica/aws-credentials
{{- end }}
{{- with .Values.archive.webIdentity.roleArn }}
- name: AWS_ROLE_ARN
  value: {{ . | quote }}
- name: AWS_WEB_IDENTITY_TOKEN_FILE
  value: /run/secrets/aws-identity/token
{{- end }}
{{- end }}

{{- /* The keys of the Secret that whoever reads the archive needs. */}}
{{- define "replica.archiveKeys" -}}
{{- $keys := list }}
{{- range splitList "," (include "replica.secretKeys" .) }}
{{- if has . (list "archive-identity" "aws-credentials") }}{{ $keys = append $keys . }}{{ end }}
{{- end }}
{{- join "," $keys }}
{{- end }}

{{- /* Takes the chart's values as "of", and "keys" of the Secret with commas between them. */}}
{{- define "replica.secretMounts" -}}
{{- if .keys }}
- name: secret
  mountPath: /run/secrets/replica
  readOnly: true
{{- end }}
{{- if .of.Values.archive.webIdentity.roleArn }}
- name: aws-identity
  mountPath: /run/secrets/aws-identity
  readOnly: true
{{- end }}
{{- end }}

{{- define "replica.secretVolumes" -}}
{{- if .keys }}
- name: secret
  secret:
    secretName: {{ include "replica.secretName" .of }}
    # For the user of the pod, by its group.
    defaultMode: 0440
    items:
      {{- range splitList "," .keys }}
      - key: {{ . }}
        path: {{ . }}
      {{- end }}
{{- end }}
{{- if .of.Values.archive.webIdentity.roleArn }}
- name: aws-identity
  projected:
    sources:
      - serviceAccountToken:
          audience: {{ .of.Values.archive.webIdentity.audience }}
          expirationSeconds: 3600
          path: token
{{- end }}
{{- end }}
