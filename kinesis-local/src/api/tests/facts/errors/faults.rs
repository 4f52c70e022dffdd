//! What a plan of faults answers in the place of an operation.

use super::*;

/// By a plan of faults: with the exception's own status, before the operation has an effect.
pub(super) async fn planned(reached: &mut Reached) {
    let world = World::new().await;
    let internal = listed(INTERNAL).map(|operation| (operation, INTERNAL));
    for (operation, code) in planned_pairs().chain(internal) {
        let rule = FaultRule::new(FaultEffect::error(code)).operation(operation);
        let faults = Faults::new(FaultPlan::seeded(1).rule(rule), world.kinesis.clock());
        let (head, body) = request(operation, &world.body(operation)).into_parts();
        let effects = faults.decide(FaultService::Kinesis, &head, &body, |_, _| None);
        let mut request = Request::from_parts(head, body);
        request.extensions_mut().insert(effects.unwrap());
        let status = if code == INTERNAL { 500 } else { 400 };
        let told = (status, code, "A fault on purpose: rule 0.");
        reached.told(&world.kinesis, request, operation, told).await;
    }
}
