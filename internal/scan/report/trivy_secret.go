package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
)

// trivySecret is a secret as Trivy tells it. The lines around it, which Trivy adds,
// are left out: they would have to be kept to be told.
type trivySecret struct {
	RuleID    string
	Category  string
	Severity  string
	Title     string
	StartLine int
	EndLine   int
	Match     string // with stars where the value is
	Layer     trivyLayer
}

// trivyConfigFile is what Trivy calls an image's configuration among its secrets.
const trivyConfigFile = "config.json"

// trivySecrets are results by file, or one for the image's configuration. What is
// known before or accepted counts no more; doubtful ones would be listed by their
// readers without their doubt, and are left to the other forms.
func trivySecrets(r *Report) []trivyResult {
	by := map[string]int{}
	var out []trivyResult
	for i := range r.Secrets {
		s := &r.Secrets[i]
		if s.Known || s.Severity < leastShown && s.Accepted == nil {
			continue
		}
		target := trivySecretTarget(r, s)
		n, ok := by[target]
		if !ok {
			n = len(out)
			by[target] = n
			out = append(out, trivyResult{Target: target, Class: trivySecretClass})
		}
		one := trivySecret{
			RuleID: s.Rule, Category: trivyCategory(s.Rule), Severity: trivySeverity(s.Severity), Title: s.Title, StartLine: max(s.Line, 1), EndLine: max(s.Line, 1),
			Match: trivyMatch(s), Layer: trivyLayerOf(r, s.Layer),
		}
		if a := s.Accepted; a != nil {
			out[n].Modified = append(out[n].Modified, trivyModified{"secret", "ignored", a.Reason, a.By, one})
			continue
		}
		out[n].Secrets = append(out[n].Secrets, one)
	}
	slices.SortStableFunc(out, func(a, b trivyResult) int { return strings.Compare(a.Target, b.Target) })
	return out
}

// trivySecretTarget is the file, as Trivy writes it: with a slash before it in an
// image, without one in a folder.
func trivySecretTarget(r *Report, s *finding.Secret) string {
	switch {
	case s.Path == "":
		return trivyConfigFile
	case r.Inventory.Image != nil:
		return s.Path
	}
	return strings.TrimPrefix(s.Path, "/")
}

// trivyMatch is what stands there, as far as that may be told.
func trivyMatch(s *finding.Secret) string {
	const most = 40 // stars; how long it is they don't tell
	stars := strings.Repeat("*", min(max(s.Length, 1), most))
	match := stars
	if s.Name != "" {
		match = s.Name + "=" + stars
	}
	if s.Commit != nil {
		match += fmt.Sprintf(" (commit %s)", s.Commit.Hash[:min(len(s.Commit.Hash), 10)])
	}
	return match
}

// trivyCategory is whose secret it is, by its rule: "aws-access-token" is of AWS.
func trivyCategory(rule string) string {
	own := map[string]string{"password": "Password", "token": "General", "secret-key": "General", "generic-api-key": "General", "url-credentials": "Password", "private-key": "AsymmetricPrivateKey",
		"putty-private-key": "AsymmetricPrivateKey", "kubeconfig-client-key": "AsymmetricPrivateKey", "netrc-password": "Password", "docker-registry-credentials": "Docker", "npm-registry-credentials": "Npm",
		"jwt": "JWT", "jwt-base64": "JWT", "aws-access-token": "AWS", "aws-secret-access-key": "AWS", "github-pat": "GitHub", "gitlab-pat": "GitLab"}
	if c, ok := own[rule]; ok {
		return c
	}
	word, _, _ := strings.Cut(rule, "-")
	if word == "" {
		return "General"
	}
	return strings.ToUpper(word[:1]) + word[1:]
}
