import { startTracing } from "./src/tracing/start-tracing.ts";
import { StructuralFold } from "./src/tracing/run-projection.ts";
import { runTrace } from "./src/tracing/traceparent.ts";
import { ProtobufTraceSerializer, JsonTraceSerializer } from "@opentelemetry/otlp-transformer";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { createServer } from "node:http";
import { hash } from "node:crypto";
const N=+process.argv[2]||20000;
const at=new Date().toISOString();
function entries(runId){const t=runTrace(runId);let n=0;const e=(b)=>({v:1,id:'x',runId,n:++n,at,epoch:1,...b});
 const usage={inputTokens:1,outputTokens:2,modelCalls:1};
 const sent=(i)=>e({type:'task.sent',data:{taskId:`${runId}-t${i}`,agent:'researcher',step:`s${i}`,attempt:1,delivery:1}});
 const settled=(i)=>e({type:'task.settled',data:{taskId:`${runId}-t${i}`,agent:'researcher',worker:'host-1/abc',outcome:{type:'completed',output:'x',usage}}});
 return {t,list:[[e({type:'run.accepted',data:{input:'x',workflow:'article',version:'1',kind:'deterministic',trace:t}}),sent(1)],[settled(1),sent(2)],[settled(2),sent(3)],[settled(3),e({type:'run.completed',data:{output:'x'}})]]};}
const runs=Array.from({length:N},(_,i)=>entries('run-'+i+'-abcdef'));
const resource=resourceFromAttributes({'service.name':'troupe'});
for(let r=0;r<3;r++){
 let t=performance.now();const all=[];
 for(let i=0;i<N;i++){const {t:tr,list}=runs[i];const f=new StructuralFold({runId:'run-'+i+'-abcdef',workflow:'article',trace:tr,resource});for(const l of list)for(const s of f.fold(l))all.push(s);}
 const d=performance.now()-t;
 t=performance.now();let bytes=0;for(let i=0;i<all.length;i+=512)bytes+=ProtobufTraceSerializer.serializeRequest(all.slice(i,i+512)).length;
 const p=performance.now()-t;
 console.log('fold us/span',(d*1000/all.length).toFixed(2),'proto us/span',(p*1000/all.length).toFixed(2),'bytes/span',(bytes/all.length).toFixed(0));
}
let t=performance.now();for(let i=0;i<N*5;i++)hash('sha256','span:run-'+i,'hex').slice(0,16);console.log('hash us',((performance.now()-t)*1000/N/5).toFixed(2));
// sink in another process would be fairer; count client cpu only
const child=(await import('node:child_process')).spawn(process.execPath,['-e',"require('http').createServer((q,s)=>{q.resume();q.on('end',()=>s.end())}).listen(0,'127.0.0.1',function(){console.log(this.address().port)})"],{stdio:['ignore','pipe','inherit']});
const port=+String((await (await import('node:events')).once(child.stdout,'data'))[0]);
const tracing=startTracing({url:`http://127.0.0.1:${port}/v1/traces`});
for(let r=0;r<3;r++){
 const c0=process.cpuUsage();let dropped=0;const t0=performance.now();
 for(let i=0;i<N;i++){const {t:tr,list}=runs[i];const run=tracing.run('run-'+i+'-abcdef','article',tr);let seq=i*4;
  for(const l of list){run.recorded(l,++seq);}
  for(let k=1;k<=3;k++){const leaf=tracing.chat(run.segment(`run-${i}-abcdef-t${k}`,1),{agent:'researcher',runId:'run-'+i,taskId:'t'+k,turn:1,provider:'openai',model:'gpt-5-mini',serverAddress:'127.0.0.1',serverPort:1234});leaf.end({usage:{inputTokens:1,outputTokens:2},responseModel:'gpt',responseId:'x',finishReason:'stop',firstChunkMs:3});}
  if(i%50===49)await new Promise(r=>setImmediate(r));}
 while(tracing.exportedThrough()<N*4&&performance.now()-t0<20000)await new Promise(r=>setTimeout(r,20));
 const c=process.cpuUsage(c0);const us=c.user+c.system;
 console.log('end-to-end cpu us/span',(us/(N*8)).toFixed(2),'us/run',(us/N).toFixed(1),'wall',Math.round(performance.now()-t0));
}
const seg={traceId:'a'.repeat(32),spanId:'b'.repeat(16),sampled:true};
for(let r=0;r<2;r++){t=performance.now();const M=20000;for(let i=0;i<M;i++){tracing.chat(seg,{agent:'researcher',runId:'run',taskId:'t',turn:1,provider:'openai',model:'gpt-5-mini'}).end({usage:{inputTokens:1,outputTokens:2},responseModel:'gpt',responseId:'x',finishReason:'stop'});}
console.log('chat us',((performance.now()-t)*1000/M).toFixed(2));
t=performance.now();for(let i=0;i<M;i++){const l=tracing.tool(seg,{agent:'researcher',runId:'run',taskId:'t',tool:'search',callId:'c'});l.within(()=>1);l.end({});}
console.log('tool us',((performance.now()-t)*1000/M).toFixed(2));await new Promise(r=>setTimeout(r,1500));}
await tracing.stop(1000);child.kill();
