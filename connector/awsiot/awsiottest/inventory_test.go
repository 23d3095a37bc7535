package awsiottest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/google/go-cmp/cmp"

	"sluice/connector/awsiot/awsiottest"
)

func attributes(pairs ...string) *types.AttributePayload {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return &types.AttributePayload{Attributes: m}
}

func TestUpdateThing(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c, ctx := sdk(t, s), deadline(t)
	for _, name := range []string{"typed", "old"} {
		if err := s.CreateThingType(name); err != nil {
			t.Fatal(err)
		}
	}
	s.DeprecateThingType("old")
	if _, err := s.CreateThing("a", "", map[string]string{"x": "1", "y": "2"}); err != nil {
		t.Fatal(err)
	}
	name := aws.String("a")
	merge := attributes("y", "", "z", "3")
	merge.Merge = true
	for _, step := range []struct {
		what    string
		in      iot.UpdateThingInput
		code    string
		typ     string
		version int64
		want    map[string]string
	}{
		{"another version", iot.UpdateThingInput{ExpectedVersion: aws.Int64(7)}, "VersionConflictException", "", 1, map[string]string{"x": "1", "y": "2"}},
		{"merged", iot.UpdateThingInput{AttributePayload: merge, ExpectedVersion: aws.Int64(1)}, "", "", 2, map[string]string{"x": "1", "z": "3"}},
		{"replaced", iot.UpdateThingInput{AttributePayload: attributes("q", "1")}, "", "", 3, map[string]string{"q": "1"}},
		{"typed", iot.UpdateThingInput{ThingTypeName: aws.String("typed")}, "", "typed", 4, map[string]string{"q": "1"}},
		{"deprecated", iot.UpdateThingInput{ThingTypeName: aws.String("old")}, "InvalidRequestException", "typed", 4, map[string]string{"q": "1"}},
		{"no such type", iot.UpdateThingInput{ThingTypeName: aws.String("none")}, "ResourceNotFoundException", "typed", 4, map[string]string{"q": "1"}},
		{"four", iot.UpdateThingInput{AttributePayload: attributes("a", "1", "b", "2", "c", "3", "d", "4")}, "", "typed", 5, map[string]string{"a": "1", "b": "2", "c": "3", "d": "4"}},
		{"untyped with four", iot.UpdateThingInput{RemoveThingType: true}, "InvalidRequestException", "typed", 5, map[string]string{"a": "1", "b": "2", "c": "3", "d": "4"}},
		{"both", iot.UpdateThingInput{RemoveThingType: true, ThingTypeName: aws.String("typed")}, "InvalidRequestException", "typed", 5, map[string]string{"a": "1", "b": "2", "c": "3", "d": "4"}},
		{"untyped", iot.UpdateThingInput{RemoveThingType: true, AttributePayload: attributes()}, "", "", 6, map[string]string{}},
		{"bad", iot.UpdateThingInput{AttributePayload: attributes("a b", "1")}, "InvalidRequestException", "", 6, map[string]string{}},
	} {
		step.in.ThingName = name
		if _, err := c.UpdateThing(ctx, &step.in); code(err) != step.code {
			t.Errorf("%s: %v, want %q", step.what, err, step.code)
		}
		got, _ := s.Thing("a")
		if got.Version != step.version || got.TypeName != step.typ || !cmp.Equal(got.Attributes, step.want) {
			t.Errorf("%s: %+v", step.what, got)
		}
	}
	if _, err := c.UpdateThing(ctx, &iot.UpdateThingInput{ThingName: aws.String("none")}); code(err) != "ResourceNotFoundException" {
		t.Errorf("no such thing: %v", err)
	}
	if err := s.CreateThingType("large"); err != nil {
		t.Fatal(err)
	}
	big := attributes()
	for i := range 50 {
		big.Attributes[fmt.Sprintf("%0128d", i)] = strings.Repeat("x", 800)
	}
	_, err := c.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("big"), ThingTypeName: aws.String("large"), AttributePayload: big})
	if err != nil { // 46.4 KB
		t.Errorf("50 large attributes: %v", err)
	}
}

func TestThingTypes(t *testing.T) {
	now := time.Now()
	s := start(t, awsiottest.Options{Clock: func() time.Time { return now }})
	c, ctx := sdk(t, s), deadline(t)
	name := aws.String("typ")
	if err := s.CreateThingType(*name); err != nil {
		t.Fatal(err)
	}
	deprecate := func(undo bool) {
		t.Helper()
		if _, err := c.DeprecateThingType(ctx, &iot.DeprecateThingTypeInput{ThingTypeName: name, UndoDeprecate: undo}); err != nil {
			t.Fatal(err)
		}
	}
	drop := func() error {
		_, err := c.DeleteThingType(ctx, &iot.DeleteThingTypeInput{ThingTypeName: name})
		return err
	}
	create := func(thing string) error {
		_, err := c.CreateThing(ctx, &iot.CreateThingInput{ThingName: &thing, ThingTypeName: name})
		return err
	}
	if err := drop(); code(err) != "InvalidRequestException" {
		t.Errorf("not deprecated: %v", err)
	}
	deprecate(false)
	if err := create("a"); message(err) != "Can not create new thing with deprecated thing type:typ" {
		t.Errorf("deprecated: %v", err)
	}
	got, err := c.DescribeThingType(ctx, &iot.DescribeThingTypeInput{ThingTypeName: name})
	if err != nil || !got.ThingTypeMetadata.Deprecated || got.ThingTypeMetadata.DeprecationDate == nil {
		t.Errorf("%+v %v", got, err)
	}
	deprecate(true)
	if err := create("a"); err != nil {
		t.Error(err)
	}
	deprecate(false)
	if err := drop(); code(err) != "InvalidRequestException" || !strings.Contains(message(err), "5 minutes") {
		t.Errorf("too early: %v", err)
	}
	now = now.Add(4 * time.Minute)
	deprecate(false) // changes nothing
	now = now.Add(time.Minute)
	if err := drop(); code(err) != "InvalidRequestException" || strings.Contains(message(err), "5 minutes") {
		t.Errorf("with things: %v", err)
	}
	s.DeleteThing("a")
	if err := drop(); err != nil {
		t.Error(err)
	}
	if err := drop(); code(err) != "ResourceNotFoundException" {
		t.Errorf("again: %v", err)
	}
	_, err = c.CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: name, ThingTypeProperties: &types.ThingTypeProperties{ThingTypeDescription: aws.String("a\nb")}})
	if code(err) != "InvalidRequestException" {
		t.Errorf("a description on two lines: %v", err)
	}
}

func TestThingGroups(t *testing.T) {
	s := start(t, awsiottest.Options{APIRates: map[string]int{"*": -1}})
	c, ctx := sdk(t, s), deadline(t)
	create := func(name, parent string) error {
		in := &iot.CreateThingGroupInput{ThingGroupName: &name}
		if parent != "" {
			in.ParentGroupName = &parent
		}
		_, err := c.CreateThingGroup(ctx, in)
		return err
	}
	for _, g := range [][2]string{{"plant", ""}, {"hall-1", "plant"}, {"hall-2", "plant"}, {"line-1", "hall-1"}, {"other", ""}} {
		if err := create(g[0], g[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := create("hall-1", "plant"); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if err := create("hall-1", "other"); code(err) != "ResourceAlreadyExistsException" {
		t.Errorf("another parent: %v", err)
	}
	if err := create("x", "none"); code(err) != "ResourceNotFoundException" {
		t.Errorf("no such parent: %v", err)
	}
	got, err := c.DescribeThingGroup(ctx, &iot.DescribeThingGroupInput{ThingGroupName: aws.String("line-1")})
	if err != nil || *got.ThingGroupMetadata.ParentGroupName != "hall-1" || len(got.ThingGroupMetadata.RootToParentThingGroups) != 2 ||
		*got.ThingGroupMetadata.RootToParentThingGroups[0].GroupName != "plant" || got.Version != 1 {
		t.Errorf("%+v %v", got, err)
	}
	for _, thing := range []string{"a", "b"} {
		if _, err := s.CreateThing(thing, "", nil); err != nil {
			t.Fatal(err)
		}
	}
	add := func(thing, group string) error {
		_, err := c.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingName: &thing, ThingGroupName: &group})
		return err
	}
	for range 2 {
		if err := add("a", "line-1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := add("a", "hall-2"); code(err) != "InvalidRequestException" {
		t.Errorf("twice in a hierarchy: %v", err)
	}
	if err := add("none", "other"); code(err) != "ResourceNotFoundException" {
		t.Errorf("no such thing: %v", err)
	}
	if err := add("a", "none"); code(err) != "ResourceNotFoundException" {
		t.Errorf("no such group: %v", err)
	}
	if _, err := c.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{
		ThingArn: aws.String("arn:aws:iot:eu-central-1:123456789012:thing/b"), ThingGroupArn: aws.String("arn:aws:iot:eu-central-1:123456789012:thinggroup/other"),
	}); err != nil {
		t.Errorf("by ARN: %v", err)
	}
	things := func(group string, recursive bool) []string {
		t.Helper()
		out, err := c.ListThingsInThingGroup(ctx, &iot.ListThingsInThingGroupInput{ThingGroupName: &group, Recursive: recursive})
		if err != nil {
			t.Fatal(err)
		}
		return out.Things
	}
	if len(things("plant", false)) != 0 || !cmp.Equal(things("plant", true), []string{"a"}) || !cmp.Equal(things("other", false), []string{"b"}) {
		t.Errorf("things %v %v %v", things("plant", false), things("plant", true), things("other", false))
	}
	of, err := c.ListThingGroupsForThing(ctx, &iot.ListThingGroupsForThingInput{ThingName: aws.String("a")})
	if err != nil || len(of.ThingGroups) != 1 || *of.ThingGroups[0].GroupName != "line-1" {
		t.Errorf("%+v %v", of, err)
	}
	checkGroupLists(t, c)
	if _, err := c.DeleteThingGroup(ctx, &iot.DeleteThingGroupInput{ThingGroupName: aws.String("hall-1")}); code(err) != "InvalidRequestException" {
		t.Errorf("with children: %v", err)
	}
	if _, err := c.RemoveThingFromThingGroup(ctx, &iot.RemoveThingFromThingGroupInput{ThingName: aws.String("a"), ThingGroupName: aws.String("line-1")}); err != nil {
		t.Error(err)
	}
	if thing, _ := s.Thing("a"); len(thing.Groups) != 0 {
		t.Errorf("%+v", thing)
	}
	for range 2 {
		if _, err := c.DeleteThingGroup(ctx, &iot.DeleteThingGroupInput{ThingGroupName: aws.String("line-1")}); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.DescribeThingGroup(ctx, &iot.DescribeThingGroupInput{ThingGroupName: aws.String("line-1")}); code(err) != "ResourceNotFoundException" {
		t.Errorf("deleted: %v", err)
	}
}

func checkGroupLists(t *testing.T, c *iot.Client) {
	t.Helper()
	for _, test := range []struct {
		in   iot.ListThingGroupsInput
		want []string
	}{
		{iot.ListThingGroupsInput{}, []string{"hall-1", "hall-2", "line-1", "other", "plant"}},
		{iot.ListThingGroupsInput{ParentGroup: aws.String("plant")}, []string{"hall-1", "hall-2"}},
		{iot.ListThingGroupsInput{ParentGroup: aws.String("plant"), Recursive: aws.Bool(true)}, []string{"hall-1", "hall-2", "line-1"}},
		{iot.ListThingGroupsInput{NamePrefixFilter: aws.String("hall")}, []string{"hall-1", "hall-2"}},
	} {
		test.in.MaxResults = aws.Int32(2)
		var names []string
		for p := iot.NewListThingGroupsPaginator(c, &test.in); p.HasMorePages(); {
			page, err := p.NextPage(deadline(t))
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range page.ThingGroups {
				names = append(names, *g.GroupName)
			}
		}
		if !cmp.Equal(names, test.want) {
			t.Errorf("%+v: %v", test.in, names)
		}
	}
}

// TestGroupLimits are ten groups for a thing and seven levels.
func TestGroupLimits(t *testing.T) {
	s := start(t, awsiottest.Options{APIRates: map[string]int{"*": -1}})
	c, ctx := sdk(t, s), deadline(t)
	if _, err := s.CreateThing("a", "", nil); err != nil {
		t.Fatal(err)
	}
	for i := range 11 {
		name := fmt.Sprint("group-", i)
		if _, err := c.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: &name}); err != nil {
			t.Fatal(err)
		}
		_, err := c.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingName: aws.String("a"), ThingGroupName: &name})
		if want := map[bool]string{false: "", true: "InvalidRequestException"}[i == 10]; code(err) != want {
			t.Errorf("group %d: %v", i+1, err)
		}
	}
	parent := "group-0"
	for level := 2; level <= 8; level++ {
		name := fmt.Sprint("level-", level)
		_, err := c.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: &name, ParentGroupName: &parent})
		if want := map[bool]string{false: "", true: "InvalidRequestException"}[level == 8]; code(err) != want {
			t.Errorf("level %d: %v", level, err)
		}
		parent = name
	}
}

func TestBillingGroups(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c, ctx := sdk(t, s), deadline(t)
	for _, name := range []string{"one", "two"} {
		if _, err := c.CreateBillingGroup(ctx, &iot.CreateBillingGroupInput{BillingGroupName: &name}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.CreateBillingGroup(ctx, &iot.CreateBillingGroupInput{
		BillingGroupName: aws.String("one"), BillingGroupProperties: &types.BillingGroupProperties{BillingGroupDescription: aws.String("other")},
	})
	if code(err) != "ResourceAlreadyExistsException" {
		t.Errorf("another description: %v", err)
	}
	_, err = c.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("a"), BillingGroupName: aws.String("none")})
	if code(err) != "ResourceNotFoundException" {
		t.Errorf("no such group: %v", err)
	}
	if _, err := c.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("a"), BillingGroupName: aws.String("one")}); err != nil {
		t.Fatal(err)
	}
	add := func(group string) error {
		_, err := c.AddThingToBillingGroup(ctx, &iot.AddThingToBillingGroupInput{ThingName: aws.String("a"), BillingGroupName: &group})
		return err
	}
	if err := add("one"); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := add("two"); code(err) != "InvalidRequestException" {
		t.Errorf("a second one: %v", err)
	}
	if err := add("none"); code(err) != "ResourceNotFoundException" {
		t.Errorf("none: %v", err)
	}
	in, err := c.ListThingsInBillingGroup(ctx, &iot.ListThingsInBillingGroupInput{BillingGroupName: aws.String("one")})
	if err != nil || !cmp.Equal(in.Things, []string{"a"}) {
		t.Errorf("%+v %v", in, err)
	}
	described, err := c.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: aws.String("a")})
	if err != nil || *described.BillingGroupName != "one" {
		t.Errorf("%+v %v", described, err)
	}
	if _, err := c.RemoveThingFromBillingGroup(ctx, &iot.RemoveThingFromBillingGroupInput{ThingName: aws.String("a"), BillingGroupName: aws.String("one")}); err != nil {
		t.Error(err)
	}
	if err := add("two"); err != nil {
		t.Errorf("after the first: %v", err)
	}
	list, err := c.ListBillingGroups(ctx, &iot.ListBillingGroupsInput{NamePrefixFilter: aws.String("t")})
	if err != nil || len(list.BillingGroups) != 1 || *list.BillingGroups[0].GroupName != "two" {
		t.Errorf("%+v %v", list, err)
	}
	if g, err := c.DescribeBillingGroup(ctx, &iot.DescribeBillingGroupInput{BillingGroupName: aws.String("two")}); err != nil || g.Version != 1 {
		t.Errorf("%+v %v", g, err)
	}
	if _, err := c.DeleteBillingGroup(ctx, &iot.DeleteBillingGroupInput{BillingGroupName: aws.String("two"), ExpectedVersion: aws.Int64(2)}); code(err) != "VersionConflictException" {
		t.Errorf("another version: %v", err)
	}
	if _, err := c.DeleteBillingGroup(ctx, &iot.DeleteBillingGroupInput{BillingGroupName: aws.String("two")}); err != nil {
		t.Error(err)
	}
	if thing, _ := s.Thing("a"); thing.BillingGroup != "" {
		t.Errorf("%+v", thing)
	}
}

func TestTags(t *testing.T) {
	s := start(t, awsiottest.Options{APIRates: map[string]int{"*": -1}})
	c, ctx := sdk(t, s), deadline(t)
	tags := func(n int) []types.Tag {
		var out []types.Tag
		for i := range n {
			out = append(out, types.Tag{Key: aws.String(fmt.Sprintf("k%02d", i)), Value: aws.String("v 1")})
		}
		return out
	}
	made, err := c.CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: aws.String("t"), Tags: tags(2)})
	if err != nil {
		t.Fatal(err)
	}
	tag := func(tags []types.Tag) error {
		_, err := c.TagResource(ctx, &iot.TagResourceInput{ResourceArn: made.ThingTypeArn, Tags: tags})
		return err
	}
	if err := tag(tags(50)); err != nil {
		t.Error(err)
	}
	if err := tag(tags(51)); code(err) != "LimitExceededException" {
		t.Errorf("51: %v", err)
	}
	if err := tag([]types.Tag{{Key: aws.String("a;b"), Value: aws.String("")}}); code(err) != "InvalidRequestException" {
		t.Errorf("a key: %v", err)
	}
	if _, err := c.UntagResource(ctx, &iot.UntagResourceInput{ResourceArn: made.ThingTypeArn, TagKeys: []string{"k00"}}); err != nil {
		t.Error(err)
	}
	list, err := c.ListTagsForResource(ctx, &iot.ListTagsForResourceInput{ResourceArn: made.ThingTypeArn})
	if err != nil || len(list.Tags) != 49 || *list.Tags[0].Key != "k01" || *list.Tags[0].Value != "v 1" {
		t.Errorf("%+v %v", list, err)
	}
	if _, err := c.ListTagsForResource(ctx, &iot.ListTagsForResourceInput{ResourceArn: aws.String("arn:none")}); code(err) != "ResourceNotFoundException" {
		t.Errorf("none: %v", err)
	}
}
