package server_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
	"github.com/castellan-security/castellan/internal/store"
)

// document is what these tests read of an OpenAPI document.
type document struct {
	OpenAPI    string                          `json:"openapi"`
	Paths      map[string]map[string]operation `json:"paths"`
	Components struct {
		Schemas         map[string]*schema         `json:"schemas"`
		SecuritySchemes map[string]json.RawMessage `json:"securitySchemes"`
	} `json:"components"`
}

type operation struct {
	ID        string                `json:"operationId"`
	Security  []map[string][]string `json:"security"`
	Responses map[string]struct {
		Content map[string]struct {
			Schema *schema `json:"schema"`
		} `json:"content"`
	} `json:"responses"`
}

// schema is the part of JSON Schema that the document uses. types is a word or
// a list of words.
type schema struct {
	Ref        string             `json:"$ref"`
	Types      any                `json:"type"`
	Format     string             `json:"format"`
	Properties map[string]*schema `json:"properties"`
	Required   []string           `json:"required"`
	Items      *schema            `json:"items"`
	Additional any                `json:"additionalProperties"`
	Enum       []any              `json:"enum"`
	OneOf      []*schema          `json:"oneOf"`
	AnyOf      []*schema          `json:"anyOf"`
}

// check returns what of v does not match s, as sentences.
func (d *document) check(s *schema, v any, at string) []string {
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		ref := d.Components.Schemas[name]
		if ref == nil {
			return []string{at + ": schema " + name + " is not in the document"}
		}
		return d.check(ref, v, at)
	}
	if len(s.OneOf)+len(s.AnyOf) > 0 {
		for _, o := range append(s.OneOf, s.AnyOf...) {
			if len(d.check(o, v, at)) == 0 {
				return nil
			}
		}
		return []string{at + ": matches none of its forms"}
	}
	if got := kind(v); s.Types != nil && !s.permits(got) {
		return []string{fmt.Sprintf("%s: is %s, the document says %v", at, got, s.Types)}
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
		return []string{fmt.Sprintf("%s: %v is none of %v", at, v, s.Enum)}
	}
	switch v := v.(type) {
	case map[string]any:
		return d.checkObject(s, v, at)
	case []any:
		var wrong []string
		for i := range v {
			if s.Items != nil {
				wrong = append(wrong, d.check(s.Items, v[i], fmt.Sprintf("%s[%d]", at, i))...)
			}
		}
		return wrong
	case string:
		if s.Format == "date-time" {
			if _, err := time.Parse(time.RFC3339, v); err != nil {
				return []string{at + ": " + err.Error()}
			}
		}
	}
	return nil
}

func (d *document) checkObject(s *schema, v map[string]any, at string) []string {
	var wrong []string
	for _, name := range s.Required {
		if _, ok := v[name]; !ok {
			wrong = append(wrong, at+"."+name+": required and missing")
		}
	}
	for name, field := range v {
		p := s.Properties[name]
		if p == nil {
			if s.Additional == false {
				wrong = append(wrong, at+"."+name+": not in the document")
			}
			continue
		}
		wrong = append(wrong, d.check(p, field, at+"."+name)...)
	}
	return wrong
}

func (s *schema) permits(got string) bool {
	words := []any{s.Types}
	if list, ok := s.Types.([]any); ok {
		words = list
	}
	return slices.Contains(words, any(got)) || got == "integer" && slices.Contains(words, any("number"))
}

func kind(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	case float64:
		if v == float64(int64(v)) {
			return "integer"
		}
	}
	return "number"
}

func (h *house) document(t *testing.T) *document {
	t.Helper()
	a := h.ask(t, "GET", "/api/v1/openapi.json", nil)
	if a.status != http.StatusOK {
		t.Fatalf("got %d", a.status)
	}
	d := &document{}
	a.into(t, d)
	return d
}

func TestDocumentIsServed(t *testing.T) {
	h := open(t, nil)
	d := h.document(t)
	if !strings.HasPrefix(d.OpenAPI, "3.1") || len(d.Components.SecuritySchemes) != 2 {
		t.Errorf("got version %q with %d ways in", d.OpenAPI, len(d.Components.SecuritySchemes))
	}
	if a := h.ask(t, "GET", "/api/v1/openapi.yaml", nil); a.status != http.StatusOK || !strings.HasPrefix(string(a.body), "components:") {
		t.Errorf("yaml: got %d %.40s", a.status, a.body)
	}
	if a := h.ask(t, "GET", "/docs", nil, h.as(access.Viewer)...); strings.Contains(string(a.body), "unpkg") {
		t.Error("a page with scripts from elsewhere is served")
	}
}

// shopKey is the key of the shop's first finding of a kind.
func shopKey(kind store.FindingKind) string {
	for _, m := range consoletest.New(time.Now()).Images {
		for _, f := range m.Judged {
			if f.Kind == kind {
				return f.Key
			}
		}
	}
	return "none"
}

// samples are requests for the operations that need more than their path. "-"
// leaves an operation out: another test is about it.
var samples = map[string]struct {
	path string
	body any
	as   access.Role // "" is nobody
}{
	"get-workload":                 {path: "/api/v1/workloads/" + shop, as: access.Viewer},
	"get-workload-processes":       {path: "/api/v1/workloads/" + shop + "/processes", as: access.Viewer},
	"list-workload-samples":        {path: "/api/v1/workloads/" + shop + "/samples", as: access.Viewer},
	"get-image":                    {path: "/api/v1/images/" + storefrontImage, as: access.Viewer},
	"get-image-inventory":          {path: "/api/v1/images/" + storefrontImage + "/inventory", as: access.Viewer},
	"list-image-vulnerabilities":   {path: "/api/v1/images/" + storefrontImage + "/vulnerabilities", as: access.Viewer},
	"scan-image":                   {path: "/api/v1/images/" + storefrontImage + "/scan", as: access.Operator},
	"list-image-registries":        {path: "/api/v1/images/" + storefrontImage + "/registries", as: access.Viewer},
	"create-registry":              {path: "/api/v1/registries", body: map[string]any{"name": "new", "host": "registry.invalid", "webhook": true}, as: access.Operator},
	"get-registry":                 {path: "/api/v1/registries/shop", as: access.Viewer},
	"update-registry":              {path: "/api/v1/registries/hub", body: map[string]any{"name": "hub", "host": "registry.invalid", "keep": 3, "webhook": "new"}, as: access.Operator},
	"delete-registry":              {path: "/api/v1/registries/hub", as: access.Operator},
	"check-registry":               {path: "/api/v1/registries/shop/check", as: access.Operator},
	"list-registry-images":         {path: "/api/v1/registries/shop/images", as: access.Viewer},
	"scan-registry-image":          {path: "/api/v1/registries/shop/images/1/scan", as: access.Operator},
	"list-registry-repositories":   {path: "/api/v1/registries/shop/repositories", as: access.Viewer},
	"get-vulnerability":            {path: "/api/v1/vulnerabilities/CVE-2024-21538", as: access.Viewer},
	"accept-vulnerability":         {path: "/api/v1/acceptances", body: map[string]any{"vulnerability": "CVE-2024-0727", "package": "openssl", "reason": "not built", "expires": time.Now().Add(time.Hour)}, as: access.Operator},
	"end-acceptance":               {path: "/api/v1/acceptances/1", as: access.Operator},
	"get-secrets":                  {path: "/api/v1/secrets/" + shopKey(store.KindSecret), as: access.Viewer},
	"get-faults":                   {path: "/api/v1/faults/" + shopKey(store.KindFault), as: access.Viewer},
	"get-malware":                  {path: "/api/v1/malware/" + shopKey(store.KindMalware), as: access.Viewer},
	"list-image-secrets":           {path: "/api/v1/images/" + storefrontImage + "/secrets", as: access.Viewer},
	"list-image-faults":            {path: "/api/v1/images/" + storefrontImage + "/faults", as: access.Viewer},
	"list-image-malware":           {path: "/api/v1/images/" + storefrontImage + "/malware", as: access.Viewer},
	"get-trend":                    {path: "/api/v1/trends/secret?days=400", as: access.Viewer},
	"set-owner":                    {path: "/api/v1/owners", body: map[string]any{"image": "shop/*", "name": "Shop"}, as: access.Operator},
	"remove-owner":                 {path: "/api/v1/owners?image=shop/*", as: access.Operator},
	"get-event":                    {path: "/api/v1/events/1", as: access.Viewer},
	"get-event-rate":               {path: "/api/v1/events/rate?since=1h", as: access.Viewer},
	"follow-events":                {path: "-"}, // TestStream…
	"get-agent":                    {path: "/api/v1/agents/" + agentID, as: access.Viewer},
	"put-settings":                 {path: "/api/v1/agents/settings", body: map[string]any{"sensors_off": []string{"dns"}, "sensitive_paths": []string{"/k"}, "window_ns": 1_000_000_000}, as: access.Operator},
	"get-agent-settings":           {path: "/api/v1/agents/" + agentID + "/settings", as: access.Viewer},
	"put-agent-settings":           {path: "/api/v1/agents/" + agentID + "/settings", body: map[string]any{}, as: access.Operator},
	"invite-agent":                 {path: "/api/v1/agents/invitations", body: map[string]any{"name": "host-7", "expires_in_seconds": 600}, as: access.Administrator},
	"revoke-agent":                 {path: "-"}, // TestRevokedAgentIsCutOffAtOnce
	"ask-snapshot":                 {path: "-"}, // TestAgentWorksAsItIsTold
	"get-agent-processes":          {path: "/api/v1/agents/" + agentID + "/processes", as: access.Viewer},
	"add-notify-target":            {path: "-"}, // TestImageThatBecomesVulnerableIsTold
	"remove-notify-target":         {path: "-"},
	"update-notify-target":         {path: "-"},
	"test-notify-target":           {path: "-"},
	"retry-dead-notifications":     {path: "/api/v1/notify/dead/retry", body: map[string]any{"all": true}, as: access.Operator},
	"drop-dead-notifications":      {path: "/api/v1/notify/dead/drop", body: map[string]any{"all": true}, as: access.Operator},
	"preview-notification":         {path: "/api/v1/notify/preview", body: map[string]any{"title": "{{.Title}}", "kind": "incident"}, as: access.Operator},
	"get-trust-policy":             {path: "-"}, // TestTrustPolicyOverTheAPI
	"get-trust-image":              {path: "-"},
	"put-trust-policy":             {path: "/api/v1/trust/policy", body: map[string]any{"text": "version: 1\nimages:\n  - match: a.example/b\n    deny: x\n", "after": 0}, as: access.Administrator},
	"decide-admission":             {path: "-"}, // TestAdmissionOverTheAPI, with those below
	"get-admission-policy":         {path: "-"},
	"put-admission-policy":         {path: "-"},
	"check-admission-policy":       {path: "/api/v1/admit/policy/check", body: map[string]any{"text": "x"}, as: access.Viewer},
	"try-admission-policy":         {path: "/api/v1/admit/policy/try", body: map[string]any{"text": noPrivileged, "request": deployment("r", true)}, as: access.Viewer},
	"get-admission-verdict":        {path: "-"},
	"replay-admission":             {path: "/api/v1/admit/replay", body: map[string]any{"text": noPrivileged}, as: access.Viewer},
	"add-admission-exception":      {path: "/api/v1/admit/exceptions", body: map[string]any{"rules": []string{"a"}, "owner": "b", "reason": "c", "family": "d", "expires": time.Now().Add(time.Hour)}, as: access.Administrator},
	"withdraw-admission-exception": {path: "-"},
	"get-admission-facts":          {path: "/api/v1/admit/facts?image=sha256:" + strings.Repeat("a", 64), as: access.Viewer},
	"try-trust-policy":             {path: "/api/v1/trust/policy/try", body: map[string]any{"text": "version: 1\nimages:\n  - match: a.example/b\n    deny: x\n"}, as: access.Viewer},
	"check-trust-policy":           {path: "/api/v1/trust/policy/check", body: map[string]any{"text": "x"}, as: access.Viewer},
	"put-behaviour-answers":        {path: "/api/v1/watch/answers", body: map[string]any{"group": shownGroup, "answers": map[string]any{"file": "audit"}}, as: access.Administrator},
	"decline-behaviour-proposal":   {path: "/api/v1/watch/decline", body: map[string]any{"group": shownGroup}, as: access.Administrator},
	"get-behaviour-group":          {path: "/api/v1/watch/group?group=" + shownGroup, as: access.Viewer},
	"forget-behaviour-group":       {path: "-"}, // TestBehaviourOverTheAPI
	"put-behaviour-mode":           {path: "/api/v1/watch/mode", body: map[string]any{"group": shownGroup, "mode": "protect", "anyway": true}, as: access.Administrator},
	"undo-behaviour-permit":        {path: "/api/v1/watch/permits/1/undo", body: map[string]any{}, as: access.Administrator},
	"get-behaviour-profile":        {path: "/api/v1/watch/profile?group=" + shownGroup, as: access.Viewer},
	"put-behaviour-profile":        {path: "/api/v1/watch/profile", body: map[string]any{"group": shownGroup, "text": shownProfile, "after": -1}, as: access.Administrator},
	"list-behaviour-changes":       {path: "/api/v1/watch/profile/changes?group=" + shownGroup, as: access.Viewer},
	"check-behaviour-profile":      {path: "/api/v1/watch/profile/check", body: map[string]any{"text": "x"}, as: access.Viewer},
	"list-behaviour-revisions":     {path: "/api/v1/watch/profile/history?group=" + shownGroup, as: access.Viewer},
	"start-behaviour-profile":      {path: "/api/v1/watch/profile/start", body: map[string]any{"group": shownGroup, "name": "nginx"}, as: access.Administrator},
	"put-behaviour-promotion":      {path: "/api/v1/watch/promotion", body: map[string]any{"promote": "propose", "after": "7d"}, as: access.Administrator},
	"rehearse-behaviour":           {path: "/api/v1/watch/rehearse", body: map[string]any{"group": shownGroup}, as: access.Viewer},
	"release-behaviour-group":      {path: "/api/v1/watch/release", body: map[string]any{"group": shownGroup, "released": true}, as: access.Administrator},
	"get-behaviour-violation":      {path: "/api/v1/watch/violations/1", as: access.Viewer},
	"permit-behaviour-violation":   {path: "/api/v1/watch/violations/1/permit", body: map[string]any{}, as: access.Administrator},
	"respond":                      {path: "-"}, // TestDeedsOverTheAPI
	"get-incident":                 {path: "-"}, // TestIncidentsOverTheAPI
	"change-incident":              {path: "-"}, // as above
	"get-response":                 {path: "-"},
	"get-response-policy":          {path: "-"}, // TestRulesAct
	"delete-snapshot":              {path: "-"}, // TestSnapshotOverTheAPI
	"download-snapshot":            {path: "-"},
	"put-response-policy":          {path: "/api/v1/respond/policy", body: map[string]any{"text": "responses: []", "after": 0}, as: access.Operator},
	"check-response-policy":        {path: "/api/v1/respond/policy/check", body: map[string]any{"text": "x"}, as: access.Viewer},
	"replay-response-policy":       {path: "/api/v1/respond/policy/replay", body: map[string]any{"since": "2026-11-01T00:00:00Z"}, as: access.Viewer},
	"try-response-policy":          {path: "/api/v1/respond/policy/try", body: map[string]any{"rule": "miner-stratum"}, as: access.Viewer},
	"check-detection-document":     {path: "/api/v1/detect/check", body: map[string]any{"name": "x.yaml", "text": "rules: [{id: x}]"}, as: access.Viewer},
	"get-detection-document":       {path: "-"}, // TestRulesOfDetectionOverTheAPI
	"set-detection-document":       {path: "/api/v1/detect/documents/shop.yaml", body: map[string]any{"text": "lists: {ours: {value: [a], meaning: m}}", "after": 0}, as: access.Operator},
	"remove-detection-document":    {path: "/api/v1/detect/documents/shop.yaml?after=1", as: access.Operator},
	"list-detection-versions":      {path: "/api/v1/detect/documents/shop.yaml/versions", as: access.Viewer},
	"get-detection-rule":           {path: "/api/v1/detect/rules/escape-core-pattern", as: access.Viewer},
	"set-trail":                    {path: "/api/v1/detect/trails/main", body: map[string]any{"queue": "https://sqs.eu-west-1.amazonaws.com/123456789012/q", "quiet": "6h"}, as: access.Operator},
	"remove-trail":                 {path: "/api/v1/detect/trails/main", as: access.Operator},
	"test-trail":                   {path: "-"}, // it asks AWS: see detect_trail.txtar
	"silence-detection-rule":       {path: "/api/v1/detect/silences", body: map[string]any{"rule": "escape-*", "groups": []string{"a/*"}, "reason": "r", "until": time.Now().Add(time.Hour)}, as: access.Operator},
	"end-detection-silence":        {path: "/api/v1/detect/silences/1", as: access.Operator},
	"sign-in":                      {path: "/api/v1/session", body: map[string]string{"name": "viewer", "password": password}},
	"sign-out":                     {path: "/api/v1/session", as: access.Viewer},
	"change-password":              {path: "-"}, // TestPasswordChangeEndsTheSession
	"create-user":                  {path: "/api/v1/users", body: map[string]string{"name": "new", "role": "viewer", "password": password}, as: access.Administrator},
	"update-user":                  {path: "/api/v1/users/{new}", body: map[string]any{"role": "operator"}, as: access.Administrator},
	"delete-user":                  {path: "/api/v1/users/{new}", as: access.Administrator},
	"create-token":                 {path: "/api/v1/tokens", body: map[string]any{"name": "new", "scopes": []string{"events:read"}, "expires": time.Now().Add(time.Hour)}, as: access.Administrator},
	"delete-token":                 {path: "/api/v1/tokens/2", as: access.Administrator},
}

// TestEveryRouteAnswersAsTheDocumentSays asks each operation of the served
// document and holds the answer against its schema.
func TestEveryRouteAnswersAsTheDocumentSays(t *testing.T) {
	h := stocked(t)
	h.report(t, "sh", "curl")
	d := h.document(t)
	newUser := ""
	for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
		for _, method := range []string{"get", "post", "put", "patch", "delete"} { // in the order of a life
			op, ok := d.Paths[path][method]
			if !ok {
				continue
			}
			sample, ok := samples[op.ID]
			if !ok {
				sample.path, sample.as = path, access.Administrator
			}
			if sample.path == "-" {
				continue
			}
			if strings.Contains(sample.path, "{new}") && newUser == "" {
				t.Fatalf("%s comes before a user is made", op.ID)
			}
			var header []string
			if sample.as != "" {
				header = h.as(sample.as)
			}
			a := h.ask(t, strings.ToUpper(method), strings.ReplaceAll(sample.path, "{new}", newUser), sample.body, header...)
			if a.status/100 != 2 {
				t.Errorf("%s: got %d %s", op.ID, a.status, a.body)
				continue
			}
			if op.ID == "create-user" {
				var u access.User
				a.into(t, &u)
				newUser = strconv.FormatInt(u.ID, 10)
			}
			d.hold(t, op, a)
		}
	}
}

// hold compares one answer with what its operation promises.
func (d *document) hold(t *testing.T, op operation, a answer) {
	t.Helper()
	promised, ok := op.Responses[strconv.Itoa(a.status)]
	if !ok {
		promised, ok = op.Responses["default"]
	}
	if !ok {
		t.Errorf("%s: status %d is not in the document", op.ID, a.status)
		return
	}
	if len(promised.Content) == 0 {
		if len(a.body) > 0 {
			t.Errorf("%s: got a body where none is promised: %s", op.ID, a.body)
		}
		return
	}
	media, ok := promised.Content[a.header.Get("Content-Type")]
	if !ok {
		t.Errorf("%s: %q is not in the document", op.ID, a.header.Get("Content-Type"))
		return
	}
	var v any
	a.into(t, &v)
	for _, wrong := range d.check(media.Schema, v, op.ID) {
		t.Error(wrong)
	}
}

func TestProblemsAnswerAsTheDocumentSays(t *testing.T) {
	h := open(t, nil)
	d := h.document(t)
	for path, ops := range d.Paths {
		for method, op := range ops {
			if len(op.Security) == 0 {
				continue // open to everybody
			}
			filled := strings.NewReplacer("{id}", "1").Replace(path)
			a := h.ask(t, strings.ToUpper(method), filled, nil)
			if a.status != http.StatusUnauthorized {
				t.Errorf("%s without identity: got %d, want 401", op.ID, a.status)
			}
			d.hold(t, op, a)
		}
	}
	d.hold(t, d.Paths["/api/v1/events"]["get"], h.ask(t, "GET", "/api/v1/events?limit=x&kinds=y", nil, h.as(access.Viewer)...))
	d.hold(t, d.Paths["/api/v1/events"]["get"], h.ask(t, "GET", "/api/v1/events?since=x", nil, h.as(access.Viewer)...))
}

// TestDocumentAndTableAgree holds the security that the document declares
// against the table that says by hand who may ask what.
func TestDocumentAndTableAgree(t *testing.T) {
	h := open(t, nil)
	d := h.document(t)
	declared := map[string][]string{}
	for path, ops := range d.Paths {
		for method, op := range ops {
			key := strings.ToUpper(method) + " " + strings.TrimPrefix(path, "/api/v1")
			for _, way := range op.Security {
				for _, scopes := range way {
					declared[key] = append(declared[key], scopes...)
				}
			}
		}
	}
	scopeOf := func(r access.Role, scopes []string) bool {
		for _, s := range scopes {
			if !slices.Contains(r.Scopes(), access.Scope(s)) {
				return false
			}
		}
		return true
	}
	for _, r := range routes {
		path := strings.NewReplacer(shop, "{id}", agentID, "{id}", "/999", "/{id}", "/users/2", "/users/{id}", "/events/1", "/events/{id}").Replace(r.path)
		scopes, ok := declared[r.method+" "+path]
		if _, there := d.Paths["/api/v1"+path]; !there {
			t.Errorf("%s %s is not in the document", r.method, path)
			continue
		}
		for _, role := range access.Roles() {
			may := slices.Index(access.Roles(), role) >= slices.Index(access.Roles(), r.least)
			// Tokens of one's own need no scope, but a token needs one to make more.
			if may && ok && !scopeOf(role, scopes) {
				t.Errorf("%s %s: the document asks %v, which a %s lacks", r.method, path, scopes, role)
			}
		}
	}
}
