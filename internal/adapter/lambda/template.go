package lambda

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
)

// ResourceTypes are the types of resources that hooks of CloudFormation are to be
// called for. Others are let through: nothing of them says how containers run.
func ResourceTypes() []string {
	return []string{"AWS::ECS::TaskDefinition", "AWS::ECS::Service", "AWS::ECS::TaskSet", "AWS::ECR::Repository"}
}

// TemplateAnswer is what CloudFormation reads as the answer of a hook.
type TemplateAnswer struct {
	Status      string       `json:"hookStatus"`          // SUCCESS, FAILED, IN_PROGRESS
	Code        string       `json:"errorCode,omitempty"` // NonCompliant, InternalFailure
	Message     string       `json:"message,omitempty"`
	Token       string       `json:"clientRequestToken"`
	Delay       int          `json:"callbackDelaySeconds,omitempty"`
	Annotations []Annotation `json:"annotations,omitempty"`
}

// Annotation is one reason, as CloudFormation shows it beside a hook's result.
type Annotation struct {
	Name     string `json:"annotationName"`
	Status   string `json:"status"` // PASSED, FAILED, SKIPPED
	Message  string `json:"statusMessage,omitempty"`
	Remedy   string `json:"remediationMessage,omitempty"`
	Severity string `json:"severityLevel,omitempty"`
}

const (
	// CloudFormation cuts messages after maxMessage bytes, those for Cloud Control
	// after maxControlMessage.
	maxMessage        = 4096
	maxControlMessage = 1024
	// maxAnnotations bounds what is said beside: nobody reads more.
	maxAnnotations = 30
)

// template answers CloudFormation's hook.
func (h *Handler) template(ctx context.Context, in Invocation, t *TemplateHook) ([]byte, error) {
	what := fmt.Sprintf("%s %s %s", t.Point, firstOf(t.Type, string(t.Kind)), t.Name)
	place := admission.Place{Account: t.Account, Region: regionOf(in.Function)}
	base := admission.Request{ID: in.ID, Door: admission.CloudFormation, Action: admission.Register, At: time.Now().UTC(), Place: place}
	j := h.judge(ctx, base, func(ctx context.Context) (admission.Document, error) { return h.templateOf(ctx, t) }, t.Asked >= templateAsks)
	a := TemplateAnswer{Status: "SUCCESS", Token: t.Token, Annotations: annotations(&j)}
	limit := maxMessage
	if t.Stack == "" {
		limit = maxControlMessage
	}
	switch j.outcome {
	case admission.Allow:
		a.Message = "Castellan has nothing against it"
		if j.declared {
			a.Message = clipped("Castellan could not decide, and lets it through as it is set up to: "+j.err.Error(), limit)
		}
	case admission.Wait:
		a.Status, a.Delay, a.Annotations = "IN_PROGRESS", int(j.delay()/time.Second), nil
		a.Message = "Castellan is finding out about its images"
	default:
		a.Status, a.Code, a.Message = "FAILED", "NonCompliant", messageOf(&j, limit)
		if j.err != nil && !fault.Is(j.err, fault.Invalid) {
			a.Code = "InternalFailure"
		}
	}
	h.tell(in, admission.CloudFormation, what, a.Status, &j)
	return json.Marshal(a)
}

// regionOf is the region of the function, in which CloudFormation calls it.
func regionOf(function string) string {
	part := strings.SplitN(function, ":", 5)
	if len(part) < 5 {
		return ""
	}
	return part[3]
}

// templateOf is what a hook is about as one template; an empty one if nothing of
// it is looked at.
func (h *Handler) templateOf(ctx context.Context, t *TemplateHook) (admission.Document, error) {
	if strings.HasPrefix(t.Point, "DELETE_") {
		return admission.Document{}, nil
	}
	switch t.Kind {
	case TargetStack, TargetChangeSet:
		b, err := h.Objects.get(ctx, t.Payload)
		if err != nil {
			return admission.Document{}, fmt.Errorf("fetch template of %.200s: %w", t.Name, err)
		}
		return templateOfPayload(t, b)
	}
	if !slices.Contains(ResourceTypes(), t.Type) {
		return admission.Document{}, nil
	}
	all := map[string]resource{t.Name: {Type: t.Type, Properties: t.Model}}
	var digests map[string]string
	if t.Type == "AWS::ECS::Service" || t.Type == "AWS::ECS::TaskSet" {
		d, err := h.definitionOf(ctx, t.Model, all)
		if err != nil {
			return admission.Document{}, err
		}
		digests = d
	}
	body, err := json.Marshal(map[string]any{"Resources": all})
	if err != nil {
		return admission.Document{}, unknown("its properties are not read: %w", err)
	}
	return admission.Document{Name: t.Name, Body: body, Digests: digests}, nil
}

// resource is one of a template.
type resource struct {
	Type       string          `json:"Type"`
	Properties json.RawMessage `json:"Properties,omitempty"`
}

// definitionOf adds the task definition that a service names, and has the service
// refer to it. When a hook is called for a service, the definition is there: it
// was made before.
func (h *Handler) definitionOf(ctx context.Context, model json.RawMessage, all map[string]resource) (digests map[string]string, err error) {
	var properties map[string]json.RawMessage
	var name string
	if json.Unmarshal(model, &properties) != nil || json.Unmarshal(properties["TaskDefinition"], &name) != nil || name == "" {
		return nil, nil // deployed by somebody else: task sets have their own
	}
	d, err := h.Tasks.Definition(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("read task definition %.300s: %w", name, err)
	}
	var described struct{ Resources map[string]resource }
	if err := json.Unmarshal(d.Body, &described); err != nil {
		return nil, fmt.Errorf("read task definition %.300s: %w", name, err)
	}
	for logical, r := range described.Resources {
		id := logical
		for _, taken := all[id]; taken; _, taken = all[id] {
			id += "X"
		}
		all[id] = r
		properties["TaskDefinition"], _ = json.Marshal(map[string]string{"Ref": id}) // of texts: it cannot fail
	}
	changed, err := json.Marshal(properties)
	if err != nil {
		return nil, unknown("its properties are not read: %w", err)
	}
	for id, r := range all {
		if r.Type == "AWS::ECS::Service" || r.Type == "AWS::ECS::TaskSet" {
			r.Properties = changed
			all[id] = r
		}
	}
	return d.Digests, nil
}

// afterApply is what a change set has in place of what only its execution tells.
const afterApply = "{{changeSet:KNOWN_AFTER_APPLY}}"

// templateOfPayload reads what CloudFormation keeps at S3 for a hook. Of a change
// set it is the resources that it creates and changes, with their properties
// worked out; of a stack it is the template as it was given.
func templateOfPayload(t *TemplateHook, b []byte) (admission.Document, error) {
	var p struct {
		Template string `json:"template"`
		Changed  []struct {
			Action string `json:"action"`
			After  string `json:"afterContext"`
			ID     string `json:"logicalResourceId"`
			Type   string `json:"resourceType"`
		} `json:"changedResources"`
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return admission.Document{}, unknown("the payload at S3 is not read: %w", err)
	}
	if t.Kind == TargetStack {
		if strings.TrimSpace(p.Template) == "" { // it is deleted
			return admission.Document{}, nil
		}
		// What macros and modules bring is not in the template that a hook gets; the
		// hook of each resource sees it.
		return admission.Document{Name: t.Name, Body: []byte(p.Template)}, nil
	}
	all, ours := map[string]resource{}, false
	for _, c := range p.Changed {
		if c.Action == "DELETE" || c.After == "" {
			continue
		}
		var after struct{ Properties json.RawMessage }
		if err := json.Unmarshal([]byte(c.After), &after); err != nil {
			return admission.Document{}, unknown("what becomes of %.200q is not read: %w", c.ID, err)
		}
		properties, err := unresolved(after.Properties)
		if err != nil {
			return admission.Document{}, unknown("what becomes of %.200q is not read: %w", c.ID, err)
		}
		all[c.ID] = resource{Type: c.Type, Properties: properties}
		ours = ours || slices.Contains(ResourceTypes(), c.Type)
	}
	if !ours {
		return admission.Document{}, nil
	}
	body, err := json.Marshal(map[string]any{"Resources": all})
	if err != nil {
		return admission.Document{}, unknown("the payload at S3 is not read: %w", err)
	}
	return admission.Document{Name: t.Name, Body: body}, nil
}

// unresolved makes references of what only the execution of a change set tells:
// they are to parameters that nothing has, and so unknown.
func unresolved(properties json.RawMessage) (json.RawMessage, error) {
	if !strings.Contains(string(properties), afterApply) {
		return properties, nil
	}
	var v any
	if err := json.Unmarshal(properties, &v); err != nil {
		return nil, err
	}
	return json.Marshal(refer(v))
}

func refer(v any) any {
	switch v := v.(type) {
	case string:
		if strings.Contains(v, afterApply) {
			return map[string]any{"Fn::Sub": strings.ReplaceAll(strings.ReplaceAll(v, "${", "${!"), afterApply, "${KnownAfterApply}")}
		}
	case []any:
		for i := range v {
			v[i] = refer(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = refer(v[k])
		}
	}
	return v
}

// messageOf is why something is refused, for whoever deploys it.
func messageOf(j *judgement, limit int) string {
	if j.err != nil && len(j.verdicts) == 0 {
		text := "Castellan could not decide: " + j.err.Error()
		if fault.Is(j.err, fault.Invalid) {
			text = "Castellan refuses it: " + j.err.Error()
		}
		if remedy := fault.Remedy(j.err); remedy != "" {
			text += " (" + remedy + ")"
		}
		return clipped(text, limit)
	}
	var b strings.Builder
	b.WriteString("Castellan refuses it:")
	if j.err != nil {
		b.WriteString(" " + j.err.Error() + ".")
	}
	left := 0
	for _, r := range j.reasons() {
		if r.Effect != admission.Denies && (j.err == nil || r.Effect != admission.Waits) {
			continue
		}
		line := "\n" + reasonLine(&r)
		if b.Len()+len(line) > limit-40 { // room for how many more there are
			left++
			continue
		}
		b.WriteString(line)
	}
	if left > 0 {
		fmt.Fprintf(&b, "\nand %d more", left)
	}
	return clipped(b.String(), limit)
}

// reasonLine is a reason in one line.
func reasonLine(r *admission.Reason) string {
	var b strings.Builder
	b.WriteString(shown(r.Rule) + ": ")
	if r.Container != "" {
		b.WriteString(shown(r.Container) + ": ")
	}
	b.WriteString(shown(r.Message))
	if r.Remedy != "" {
		b.WriteString(" – " + shown(r.Remedy))
	}
	return b.String()
}

// annotations are reasons as CloudFormation lists them.
func annotations(j *judgement) []Annotation {
	var all []Annotation
	for _, r := range j.reasons() {
		if len(all) == maxAnnotations {
			break
		}
		a := Annotation{Name: firstOf(shown(r.Rule), "castellan"), Status: "FAILED", Remedy: shown(r.Remedy), Severity: severityOf(r.Severity)}
		if r.Effect != admission.Denies {
			a.Status = "SKIPPED"
		}
		a.Message = firstOf(shown(r.Message), "it is refused")
		if r.Container != "" {
			a.Message = shown(r.Container) + ": " + a.Message
		}
		all = append(all, a)
	}
	return all
}

func severityOf(s finding.Severity) string {
	switch s {
	case finding.Low:
		return "LOW"
	case finding.Medium:
		return "MEDIUM"
	case finding.High:
		return "HIGH"
	case finding.Critical:
		return "CRITICAL"
	}
	return "INFORMATIONAL"
}
