package awsiottest

// operations are those of the registry API. Paths, shapes and names are those
// of its service model (2015-05-28); what the permission is asked on is as the
// Service Authorization Reference lists it for AWS IoT, where known: for the
// actions about principals of a thing it is inferred.
func operations() []operation {
	return append(thingOperations(), securityOperations()...)
}

func thingOperations() []operation {
	return []operation{
		{"GET", "/things", "ListThings", anything, listThings},
		{"GET", "/things/*", "DescribeThing", onPath("thing"), describeThing},
		{"POST", "/things/*", "CreateThing", onPath("thing"), createThing},
		{"PATCH", "/things/*", "UpdateThing", onPath("thing"), updateThing},
		{"DELETE", "/things/*", "DeleteThing", onPath("thing"), deleteThing},
		{"GET", "/things/*/principals", "ListThingPrincipals", onPath("thing"), listThingPrincipals},
		{"PUT", "/things/*/principals", "AttachThingPrincipal", onPath("thing"), attachThingPrincipal},
		{"DELETE", "/things/*/principals", "DetachThingPrincipal", onPath("thing"), detachThingPrincipal},
		{"GET", "/principals/things", "ListPrincipalThings", anything, listPrincipalThings},
		{"GET", "/things/*/thing-groups", "ListThingGroupsForThing", onPath("thing"), listThingGroupsForThing},

		{"GET", "/thing-types", "ListThingTypes", anything, listThingTypes},
		{"GET", "/thing-types/*", "DescribeThingType", onPath("thingtype"), describeThingType},
		{"POST", "/thing-types/*", "CreateThingType", onPath("thingtype"), createThingType},
		{"POST", "/thing-types/*/deprecate", "DeprecateThingType", onPath("thingtype"), deprecateThingType},
		{"DELETE", "/thing-types/*", "DeleteThingType", onPath("thingtype"), deleteThingType},

		{"GET", "/thing-groups", "ListThingGroups", anything, listThingGroups},
		{"PUT", "/thing-groups/addThingToThingGroup", "AddThingToThingGroup", bodyGroup("thinggroup"), addThingToThingGroup},
		{"PUT", "/thing-groups/removeThingFromThingGroup", "RemoveThingFromThingGroup", bodyGroup("thinggroup"), removeThingFromThingGroup},
		{"GET", "/thing-groups/*", "DescribeThingGroup", onPath("thinggroup"), describeThingGroup},
		{"POST", "/thing-groups/*", "CreateThingGroup", onPath("thinggroup"), createThingGroup},
		{"DELETE", "/thing-groups/*", "DeleteThingGroup", onPath("thinggroup"), deleteThingGroup},
		{"GET", "/thing-groups/*/things", "ListThingsInThingGroup", onPath("thinggroup"), listThingsInThingGroup},

		{"GET", "/billing-groups", "ListBillingGroups", anything, listBillingGroups},
		{"PUT", "/billing-groups/addThingToBillingGroup", "AddThingToBillingGroup", bodyGroup("billinggroup"), addThingToBillingGroup},
		{"PUT", "/billing-groups/removeThingFromBillingGroup", "RemoveThingFromBillingGroup", bodyGroup("billinggroup"), removeThingFromBillingGroup},
		{"GET", "/billing-groups/*", "DescribeBillingGroup", onPath("billinggroup"), describeBillingGroup},
		{"POST", "/billing-groups/*", "CreateBillingGroup", onPath("billinggroup"), createBillingGroup},
		{"DELETE", "/billing-groups/*", "DeleteBillingGroup", onPath("billinggroup"), deleteBillingGroup},
		{"GET", "/billing-groups/*/things", "ListThingsInBillingGroup", onPath("billinggroup"), listThingsInBillingGroup},

		{"GET", "/tags", "ListTagsForResource", queryResource, listTags},
		{"POST", "/tags", "TagResource", bodyResource, tagResource},
		{"POST", "/untag", "UntagResource", bodyResource, untagResource},
	}
}

func securityOperations() []operation {
	return []operation{
		{"GET", "/certificates", "ListCertificates", anything, listCertificates},
		{"POST", "/certificates", "CreateCertificateFromCsr", anything, createCertificateFromCsr},
		{"POST", "/keys-and-certificate", "CreateKeysAndCertificate", anything, createKeysAndCertificate},
		{"POST", "/certificate/register-no-ca", "RegisterCertificateWithoutCA", anything, registerCertificateWithoutCA},
		{"GET", "/certificates/*", "DescribeCertificate", onPath("cert"), describeCertificate},
		{"PUT", "/certificates/*", "UpdateCertificate", onPath("cert"), updateCertificate},
		{"DELETE", "/certificates/*", "DeleteCertificate", onPath("cert"), deleteCertificate},

		{"GET", "/policies", "ListPolicies", anything, listPolicies},
		{"GET", "/policies/*", "GetPolicy", onPath("policy"), getPolicy},
		{"POST", "/policies/*", "CreatePolicy", onPath("policy"), createPolicy},
		{"DELETE", "/policies/*", "DeletePolicy", onPath("policy"), deletePolicy},
		{"PUT", "/target-policies/*", "AttachPolicy", bodyTarget, attachPolicy},
		{"POST", "/target-policies/*", "DetachPolicy", bodyTarget, detachPolicy},
		{"POST", "/attached-policies/*", "ListAttachedPolicies", pathTarget, listAttachedPolicies},
		{"POST", "/policy-targets/*", "ListTargetsForPolicy", onPath("policy"), listTargetsForPolicy},
		{"PUT", "/principal-policies/*", "AttachPrincipalPolicy", headerTarget, attachPrincipalPolicy},
		{"DELETE", "/principal-policies/*", "DetachPrincipalPolicy", headerTarget, detachPrincipalPolicy},
		{"GET", "/principal-policies", "ListPrincipalPolicies", headerTarget, listPrincipalPolicies},

		{"GET", "/endpoint", "DescribeEndpoint", anything, describeEndpoint},
	}
}

// bodyGroup is the group that a body names, by its name or its ARN.
func bodyGroup(kind string) func(Options, *call) string {
	return func(o Options, c *call) string {
		in := groupCall{}
		_ = c.read(&in) // the operation says what is wrong with it
		if arn := in.ThingGroupARN + in.BillingGroupARN; arn != "" {
			return arn
		}
		return o.arn(kind + "/" + in.ThingGroupName + in.BillingGroupName)
	}
}

func bodyTarget(_ Options, c *call) string {
	var in struct {
		Target string `json:"target"`
	}
	_ = c.read(&in)
	return in.Target
}

func pathTarget(_ Options, c *call) string   { return c.name }
func headerTarget(_ Options, c *call) string { return c.principal }

func queryResource(_ Options, c *call) string { return c.query.Get("resourceArn") }

func bodyResource(_ Options, c *call) string {
	var in tagCall
	_ = c.read(&in)
	return in.ResourceARN
}

// describeEndpoint answers the emulator's addresses, with their ports: AWS
// answers a host name alone, its ports being fixed. Those of credentials and
// jobs lead nowhere.
func describeEndpoint(r *registry, c *call) (any, *apiError) {
	address := r.dataEndpoint
	switch kind := c.query.Get("endpointType"); kind {
	case "", "iot:Data", "iot:Data-ATS":
	case "iot:CredentialProvider":
		address = "emulator.credentials.iot." + r.options.Region + ".amazonaws.com"
	case "iot:Jobs":
		address = "emulator.jobs.iot." + r.options.Region + ".amazonaws.com"
	default:
		return nil, invalidRequest("Invalid endpoint type: %s", kind)
	}
	return map[string]string{"endpointAddress": address}, nil
}
