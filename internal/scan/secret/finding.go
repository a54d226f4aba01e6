package secret

import (
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
)

// Finding says what a secret that was found is worth, at a time: tokens end.
func Finding(s inventory.Secret, now time.Time) finding.Secret {
	if s.Doubt == "" && !s.Expires.IsZero() && s.Expires.Before(now) {
		s.Doubt = doubtExpired
	}
	f := finding.Secret{Secret: s, Title: title(s.Rule), Severity: severity(&s), Remedy: remedy(&s), Fingerprint: s.Print}
	// Without a reason nothing is accepted.
	if a := s.Allowed; a != nil && a.Reason != "" && (a.Expires.IsZero() || a.Expires.After(now)) {
		f.Accepted = &finding.Acceptance{Reason: a.Reason, By: "a comment beside it", Expires: a.Expires}
	}
	return f
}

// severity is graver the less has to be guessed: half of a pair, what is behind a
// passphrase, and what looks like nothing at all come last.
func severity(s *inventory.Secret) finding.Severity {
	generic := strings.HasPrefix(s.Rule, "generic")
	switch {
	case s.Doubt != "" && (generic || s.Key == inventory.KeyIncomplete):
		return finding.Negligible
	case s.Doubt != "":
		return finding.Low
	case s.Rule == ruleAWSSecret:
		return finding.Critical
	case s.Rule == "aws-access-token", s.Key == inventory.KeyEncrypted, generic, s.Rule == "jwt", s.Rule == "jwt-base64", s.Rule == ruleToken, s.Rule == ruleKey,
		s.Rule == "pkcs12-file", strings.HasPrefix(s.Rule, "curl-"), s.Rule == "kubernetes-secret-yaml":
		return finding.Medium
	case strings.HasSuffix(s.Rule, "client-id"), strings.HasSuffix(s.Rule, "access-id"), strings.HasSuffix(s.Rule, "api-id"), strings.Contains(s.Rule, "-pub"), strings.Contains(s.Rule, "-test-"):
		return finding.Low
	}
	return finding.High
}

// remedy says what to do, by where it stands.
func remedy(s *inventory.Secret) string {
	hand := "keep it in Secrets Manager or Parameter Store and name it under secrets in the task definition"
	switch {
	case s.Commit != nil:
		return "revoke it: whoever has the repository has it; then keep it out of the code"
	case s.Hidden != nil:
		return "revoke it, and build again without it (RUN --mount=type=secret): the layer that brought it still has it"
	case s.Source == inventory.InArgument, s.Source == inventory.InHistory:
		return "revoke it, and give it to the build with --secret: the history keeps arguments"
	case s.Source == inventory.InEnv, s.Source == inventory.InLabel, s.Source == inventory.InCommand, s.Source == inventory.InField:
		return "revoke it, and " + hand
	case s.Layer > 0:
		return "revoke it, build again without it, and " + hand
	}
	return "revoke it, and " + hand
}

// acronyms are written in capitals in titles, and names as their owners do.
var acronyms = map[string]string{"aws": "AWS", "api": "API", "gcp": "GCP", "jwt": "JSON web token", "github": "GitHub", "gitlab": "GitLab", "npm": "npm", "pypi": "PyPI", "pat": "personal access token",
	"oauth": "OAuth", "url": "URL", "id": "id", "ad": "AD", "openai": "OpenAI", "digitalocean": "DigitalOcean", "tf": "Terraform", "hashicorp": "HashiCorp", "yaml": "YAML", "pkcs12": "PKCS #12", "rrt": "runner registration token", "ptt": "pipeline trigger token"}

// title is a rule's id in words: "AWS access token".
func title(rule string) string {
	if t := titles[rule]; t != "" {
		return t
	}
	words := strings.Split(rule, "-")
	for i, w := range words {
		if a := acronyms[w]; a != "" {
			words[i] = a
		} else if i == 0 && w != "" {
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, " ")
}
