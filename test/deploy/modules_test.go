package deploy_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The other pieces of deploy/ that are there as a template and as a module.
var (
	trailPieces = pieces{dir: "trail", name: "castellan-trail", given: true, addresses: map[string]string{
		"Calls": "aws_sqs_queue.calls", "Unreadable": "aws_sqs_queue.unreadable", "CallsPolicy": "aws_sqs_queue_policy.calls",
		"Changes": "aws_cloudwatch_event_rule.changes", "OfTasks": "aws_cloudwatch_event_rule.of_tasks",
		"ReaderPolicy": "aws_iam_policy.reader", "Reader": "aws_iam_role.reader",
	}}
	respondPieces = pieces{dir: "respond", name: "castellan-respond", addresses: map[string]string{
		"Role": "aws_iam_role.respond", "Revoke": "aws_iam_role_policy.revoke",
	}}
)

// TestModulesAreTheirTemplates: with the same settings either gives the same rights to
// the same, and makes the same.
func TestModulesAreTheirTemplates(t *testing.T) {
	respond := settings{"ServerRole": "arn:aws:iam::111122223333:role/castellan-server", "ExternalId": "case-4242", "Clusters": "arn:aws:ecs:eu-central-1:123456789012:task/shop/*,arn:aws:ecs:eu-central-1:123456789012:task/web/*"}
	other := settings{"ServerAccountRole": "arn:aws:iam::111122223333:role/castellan-server", "ExternalId": "case-4242"}
	for _, x := range []struct {
		of   *pieces
		name string
		with settings
		says int // at least
	}{
		{&trailPieces, "attached by hand", settings{}, 10},
		{&trailPieces, "to a server here", settings{"ServerRole": "castellan-server"}, 10},
		{&trailPieces, "to a server elsewhere", other, 12},
		{&trailPieces, "to both", other.with("ServerRole", "castellan-server"), 12},
		{&trailPieces, "with the trail's files", settings{"ServerRole": "castellan-server", "TrailBucket": "trail", "TrailPrefix": "x/AWSLogs/", "TrailKey": "arn:aws:kms:eu-central-1:123456789012:key/k"}, 10},
		{&trailPieces, "with files, elsewhere, changes alone", other.with("TrailBucket", "trail", "TaskCalls", "ENABLED"), 12},
		{&respondPieces, "stops tasks", respond, 3},
		{&respondPieces, "revokes sessions", respond.with("MayRevoke", "yes", "TaskRolePath", "/shop/tasks/"), 3},
		{&respondPieces, "revokes within a boundary", respond.with("MayRevoke", "yes", "Boundary", "arn:aws:iam::123456789012:policy/limit"), 3},
	} {
		t.Run(x.of.dir+" "+x.name, func(t *testing.T) {
			k, m := stack{t, x.of, x.of.template(t), x.with}, readModule(t, x.of)
			m.with(x.with)
			if x.of == &trailPieces && (!k.accepts() || !m.accepts()) {
				t.Fatalf("the settings pass in the template: %v, and in the module: %v", k.accepts(), m.accepts())
			}
			want, got := k.deployed(), m.deployed()
			if len(want) < x.says {
				t.Fatalf("the template comes to %v", want)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-template +module:\n%s", diff)
			}
		})
	}
	sameSettings(t, trailPieces.template(t), readModule(t, &trailPieces))
	sameSettings(t, respondPieces.template(t), readModule(t, &respondPieces))
}

// TestTrailNeedsAnExternalID: a role that another account assumes has one.
func TestTrailNeedsAnExternalID(t *testing.T) {
	s := settings{"ServerAccountRole": "arn:aws:iam::111122223333:role/castellan-server"}
	k, m := stack{t, &trailPieces, trailPieces.template(t), s}, readModule(t, &trailPieces)
	m.with(s)
	if k.accepts() || m.accepts() {
		t.Errorf("without it the settings pass in the template: %v, and in the module: %v", k.accepts(), m.accepts())
	}
}

// TestTrailGivesEachRoleItsRights: a server here and one elsewhere may both read, and a
// role that is made has what it is made for.
func TestTrailGivesEachRoleItsRights(t *testing.T) {
	const here = "castellan-server"
	elsewhere := settings{"ServerAccountRole": "arn:aws:iam::111122223333:role/castellan-server", "ExternalId": "case-4242"}
	for _, x := range []struct {
		name string
		with settings
		want string
	}{
		{"nobody", settings{}, `[]`},
		{"a server here", settings{"ServerRole": here}, `["castellan-server"]`},
		{"one elsewhere", elsewhere, `["aws_iam_role.reader.name"]`},
		{"both", elsewhere.with("ServerRole", here), `["aws_iam_role.reader.name","castellan-server"]`},
	} {
		t.Run(x.name, func(t *testing.T) {
			k, m := stack{t, &trailPieces, trailPieces.template(t), x.with}, readModule(t, &trailPieces)
			m.with(x.with)
			for what, d := range map[string]deployment{"template": k.deployed(), "module": m.deployed()} {
				if got := d["aws_iam_policy.reader is given to"]; got != x.want {
					t.Errorf("the policy of the %s is given to %s, want %s", what, got, x.want)
				}
			}
		})
	}
}
